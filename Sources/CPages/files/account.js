import {$, make, call, table, reveal, to} from './app.js';

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
try { await Promise.all([look(), lookAtSignIns()]); } finally { reveal(); }
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
