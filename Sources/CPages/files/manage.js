import {$, make, call, table, to} from './app.js';

// Note and tags of a session, which its owner changes at any time.
export const editLabels = (id, session) => {
    const show = labels => {
        $('tags').replaceChildren(...(labels.tags ?? []).map(tag => make('span', {className: 'tag', textContent: tag})));
        $('note').value = labels.note ?? '';
        $('new-tags').value = (labels.tags ?? []).join(', ');
    };
    show({note: session.note, tags: session.tags});
    $('labels-form').addEventListener('submit', async event => {
        event.preventDefault();
        const said = $('labels-said');
        try {
            show(await call('PATCH', `/sessions/${id}`, {body: {note: $('note').value, tags: $('new-tags').value.split(',').map(tag => tag.trim()).filter(Boolean)}}));
            said.className = 'good';
            said.textContent = 'Saved.';
        } catch (error) { said.className = 'problem'; said.textContent = error.message; }
    });
};

// Links with which people without an account see the session.
export const manageLinks = id => {
    const look = async () => {
        const links = await call('GET', `/sessions/${id}/links`);
        $('share-list').replaceChildren(...(links.length ? [table(['Made', 'Expires', 'Trying the model', 'Action'], links.map(link => {
            const end = make('button', {className: 'quiet', type: 'button', textContent: 'Revoke', 'aria-label': `revoke the link of ${new Date(link.created_at).toLocaleString()}`});
            end.addEventListener('click', async () => { await call('DELETE', `/sessions/${id}/links/${link.id}`); await look(); });
            return [new Date(link.created_at).toLocaleString(), new Date(link.expires_at).toLocaleDateString(), link.allows_predictions ? 'allowed' : 'not allowed', end];
        }), 'Links')] : []));
    };
    $('share').addEventListener('click', async () => {
        const isOpen = $('sharing').hidden;
        $('sharing').hidden = !isOpen;
        $('share').setAttribute('aria-expanded', isOpen);
        if (isOpen) await look();
    });
    $('share-make').addEventListener('click', async () => {
        $('share-problem').hidden = true;
        try {
            const link = await call('POST', `/sessions/${id}/links`, {body: {allows_predictions: $('share-try').checked}});
            $('share-link').textContent = `${location.origin}${to(link.path)}`;
            $('share-new').hidden = false;
            await look();
        } catch (error) { $('share-problem').textContent = error.message; $('share-problem').hidden = false; }
    });
};
