import CohortCore
import CohortSession
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
        <label for="old">Current password</label><input id="old" type="password" autocomplete="current-password" required>
        <label for="new">New password</label><input id="new" type="password" autocomplete="new-password" minlength="8" maxlength="72" required aria-describedby="new-help">
        <p class="help" id="new-help">8 characters or more. You will be signed out everywhere.</p>
        <p><button>Change password</button></p><p id="said" role="status"></p></form></section>
        <section class="card" aria-labelledby="tokens-title"><h2 id="tokens-title">Join tokens</h2>
        <p class="help">Each lets machines join your pool. Revoking a token disconnects its machines.</p>
        <div id="tokens"></div></section>
        <section class="card" aria-labelledby="delete-title"><h2 id="delete-title">Delete the account</h2>
        <form id="delete"><p class="help" id="delete-help">Deletes your sessions, data sets, models, modules, join tokens and machines on this server. This cannot be undone.</p>
        <label for="delete-password">Current password</label><input id="delete-password" type="password" autocomplete="current-password" required aria-describedby="delete-help">
        <p><button class="quiet">Delete my account</button></p><p id="delete-problem" class="problem" role="alert" hidden></p></form></section>
        </div>
        <section class="card" aria-labelledby="signins-title"><h2 id="signins-title">Sign-ins</h2>
        <p class="help">Where you are signed in. End one that you do not recognize, and change your password.</p>
        <div id="signins"></div></section>
        {{/main}}{{/layout}}
        """#

    static let script = #"""
        import {$, make, call, table, to} from './app.js';

        const look = async () => {
            const tokens = await call('GET', '/auth/tokens');
            $('tokens').replaceChildren(tokens.length === 0 ? make('p', {textContent: 'There are none.'}) : table(['Name', 'Made', 'State', 'Action'], tokens.map(token => {
                const isExpired = token.expires_at && new Date(token.expires_at) < new Date();
                const button = make('button', {className: 'quiet', type: 'button', textContent: 'Revoke', 'aria-label': `revoke ${token.name}`});
                button.addEventListener('click', async () => { await call('DELETE', `/auth/tokens/${token.id}`); await look(); });
                return [token.name, new Date(token.created_at).toLocaleDateString(), token.revoked_at ? 'revoked' : isExpired ? 'expired' : 'valid', token.revoked_at ? '' : button];
            })));
        };
        // Browsers name one another; what is none names itself.
        const program = text => {
            const name = [[/Edg\//, 'Edge'], [/Firefox\//, 'Firefox'], [/Chrom(e|ium)\//, 'Chrome'], [/Safari\//, 'Safari']].find(([mark]) => mark.test(text))?.[1];
            const system = [[/Android/, 'Android'], [/iPhone|iPad/, 'iOS'], [/Windows/, 'Windows'], [/Mac OS/, 'macOS'], [/Linux/, 'Linux']].find(([mark]) => mark.test(text))?.[1];
            return name ? `${name}${system ? ` on ${system}` : ''}` : text;
        };
        const lookAtSignIns = async () => {
            const signIns = await call('GET', '/auth/signins');
            $('signins').replaceChildren(table(['Program', 'Network', 'Since', 'Action'], signIns.map(signIn => {
                const button = make('button', {className: 'quiet', type: 'button', textContent: 'End', 'aria-label': `end the sign-in of ${program(signIn.client)}`});
                button.addEventListener('click', async () => { await call('DELETE', `/auth/signins/${signIn.id}`); await lookAtSignIns(); });
                return [program(signIn.client), signIn.network, new Date(signIn.created_at).toLocaleString(), signIn.current ? 'this one' : button];
            })));
        };
        await Promise.all([look(), lookAtSignIns()]);
        $('password').addEventListener('submit', async event => {
            event.preventDefault();
            try {
                await call('POST', '/auth/password', {body: {password: $('old').value, new_password: $('new').value}});
                location.assign(to('/app/signin'));
            } catch (error) { $('said').className = 'problem'; $('said').textContent = error.message; }
        });
        $('delete').addEventListener('submit', async event => {
            event.preventDefault();
            const problem = $('delete-problem');
            problem.hidden = true;
            if (!confirm('Delete the account and everything in it? This cannot be undone.')) return;
            try {
                await call('DELETE', '/auth/me', {body: {password: $('delete-password').value}});
                location.assign(to('/app/signin'));
            } catch (error) { problem.hidden = false; problem.textContent = error.message; }
        });
        """#

    var routes: [Route] {
        [
            pages.route(.get, "/app/account", summary: "The page of the account") { request, _ in
                guard let person = try await pages.person(request) else {
                    return pages.redirect(to: "/app/signin?next=/app/account")
                }
                return pages.page(
                    request, template: "account", title: "Account", person: person.name, scripts: ["account.js"],
                    values: ["email": person.email])
            }
        ]
    }
}
