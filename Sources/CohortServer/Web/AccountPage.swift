import CohortCore
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// Who one is, one's password, one's join tokens.
struct AccountPage: Sendable {
    let pages: WebPages

    static let template = #"""
        {{<layout}}{{$main}}
        <h1>Account</h1>
        <p>{{person}}, {{email}}</p>
        <div class="grid">
        <section class="card" aria-labelledby="password-title"><h2 id="password-title">Change the password</h2>
        <form id="password"><input type="text" autocomplete="username" value="{{email}}" hidden>
        <label for="old">Password until now</label><input id="old" type="password" autocomplete="current-password" required>
        <label for="new">New password</label><input id="new" type="password" autocomplete="new-password" minlength="8" maxlength="72" required aria-describedby="new-help">
        <p class="help" id="new-help">8 characters or more. Every sign-in ends with it, this one too.</p>
        <p><button>Change it</button></p><p id="said" role="status"></p></form></section>
        <section class="card" aria-labelledby="tokens-title"><h2 id="tokens-title">Join tokens</h2>
        <p class="help">Each lets machines join your pool. One that is revoked takes its machines with it.</p>
        <div id="tokens"></div></section>
        </div>
        {{/main}}{{/layout}}
        """#

    static let script = #"""
        import {$, make, call, table} from './app.js';

        const look = async () => {
            const tokens = await call('GET', '/auth/tokens');
            $('tokens').replaceChildren(tokens.length === 0 ? make('p', {textContent: 'There are none.'}) : table(['Name', 'Made', 'State', 'Action'], tokens.map(token => {
                const isExpired = token.expires_at && new Date(token.expires_at) < new Date();
                const button = make('button', {className: 'quiet', type: 'button', textContent: 'Revoke', 'aria-label': `revoke ${token.name}`});
                button.addEventListener('click', async () => { await call('DELETE', `/auth/tokens/${token.id}`); await look(); });
                return [token.name, new Date(token.created_at).toLocaleDateString(), token.revoked_at ? 'revoked' : isExpired ? 'expired' : 'valid', token.revoked_at ? '' : button];
            })));
        };
        await look();
        $('password').addEventListener('submit', async event => {
            event.preventDefault();
            try {
                await call('POST', '/auth/password', {body: {password: $('old').value, new_password: $('new').value}});
                location.assign('/app/signin');
            } catch (error) { $('said').className = 'problem'; $('said').textContent = error.message; }
        });
        """#

    var routes: [Route] {
        [
            pages.route(.get, "/app/account", "The page of the account") { request, _ in
                guard let person = try await pages.person(request) else {
                    return WebPages.redirect(to: "/app/signin?next=/app/account")
                }
                return pages.page(
                    request, "account", title: "Account", person: person.name, scripts: ["account.js"], ["email": person.email])
            }
        ]
    }
}
