/// The layout of all pages.
enum Layout {
    static let template = #"""
        <!DOCTYPE html>
        <html lang="en" data-base="{{base}}">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="csrf-token" content="{{csrf}}">
        <title>{{title}} · Cohort</title>
        <link rel="icon" href="data:,">
        <link rel="stylesheet" href="{{base}}/assets/{{version}}/app.css">
        {{#scripts}}<script type="module" src="{{base}}/assets/{{version}}/{{.}}"></script>
        {{/scripts}}</head>
        <body>
        <a class="skip" href="#main">Skip to the content</a>
        <header>
        <nav aria-label="Main">
        <a class="brand" href="{{base}}/">Cohort</a>
        {{#person}}<a href="{{base}}/">Dashboard</a> <a href="{{base}}/app/new">New session</a> <a href="{{base}}/app/models">Models</a> <a href="{{base}}/app/compare">Compare</a> <a href="{{base}}/app/account">Account</a>{{/person}}
        <a href="{{base}}/docs">API</a>
        </nav>
        {{#person}}<form method="post" action="{{base}}/app/signout"><input type="hidden" name="csrf" value="{{csrf}}"><span class="muted">{{person}}</span> <button class="quiet">Sign out</button></form>{{/person}}
        </header>
        <main id="main">
        {{$main}}{{/main}}
        </main>
        </body>
        </html>
        """#

    static let problem = #"""
        {{<layout}}{{$main}}
        <h1>{{title}}</h1>
        <p class="problem" role="alert">{{detail}}</p>
        <p><a href="{{base}}/">Back to the dashboard</a></p>
        {{/main}}{{/layout}}
        """#

    static let style = #"""
        :root {
          color-scheme: light dark;
          --back: #fff; --front: #1b1f24; --muted: #57606a; --line: #d0d7de; --soft: #f3f5f7; --accent: #0a58b5; --on-accent: #fff;
          --good: #116329; --bad: #b3151f; --warn: #7a4d00; --bar: #0a58b5;
        }
        @media (prefers-color-scheme: dark) {
          :root {
            --back: #10141a; --front: #e6eaef; --muted: #a3adb8; --line: #39424d; --soft: #1a2029; --accent: #7ab7ff; --on-accent: #08131f;
            --good: #62d082; --bad: #ff8a84; --warn: #e5b567; --bar: #4b93e6;
          }
        }
        * { box-sizing: border-box; }
        html { -webkit-text-size-adjust: 100%; }
        body { margin: 0; font: 16px/1.5 system-ui, sans-serif; background: var(--back); color: var(--front); }
        header { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; justify-content: space-between; align-items: center; padding: .6rem 1rem; border-bottom: 1px solid var(--line); }
        header form { display: flex; gap: .75rem; align-items: center; margin: 0; }
        nav { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; align-items: baseline; }
        .brand { font-weight: 700; color: var(--front); text-decoration: none; font-size: 1.1rem; }
        main { max-width: 72rem; margin: 0 auto; padding: 1rem; }
        h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; }
        h2 { font-size: 1.15rem; margin: 1.75rem 0 .5rem; }
        a { color: var(--accent); }
        a, button, input, select, textarea, summary, [tabindex] { outline-offset: 2px; }
        :focus-visible { outline: 3px solid var(--accent); }
        .skip { position: absolute; left: -999rem; }
        .skip:focus { left: 1rem; top: .5rem; background: var(--back); padding: .5rem; z-index: 1; }
        .muted { color: var(--muted); }
        .small { font-size: .875rem; }
        .problem { color: var(--bad); }
        .warning { color: var(--warn); }
        .good { color: var(--good); }
        td select { min-width: 8rem; }
        td input { min-width: 5.5rem; }
        .grid + .grid { margin-top: 1rem; }
        .card > h2:first-child { margin-top: 0; }
        #actions { margin-bottom: 1rem; }
        .card { border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; margin: 0 0 1rem; background: var(--back); }
        .grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); align-items: start; }
        .row { display: flex; flex-wrap: wrap; gap: .75rem; align-items: center; }
        .narrow { max-width: 26rem; }
        button, .button { font: inherit; border: 1px solid var(--accent); background: var(--accent); color: var(--on-accent); border-radius: .4rem; padding: .45rem 1rem; cursor: pointer; text-decoration: none; display: inline-block; min-height: 2.6rem; }
        button.quiet, .button.quiet { background: transparent; color: var(--accent); }
        button:disabled { opacity: .55; cursor: default; }
        label { display: block; margin: .75rem 0 .2rem; font-weight: 600; }
        .help { color: var(--muted); font-size: .875rem; margin: .15rem 0 0; }
        input, select, textarea { font: inherit; width: 100%; padding: .45rem .6rem; border: 1px solid var(--muted); border-radius: .4rem; background: var(--back); color: var(--front); min-height: 2.6rem; }
        input[type=checkbox] { width: auto; min-height: 0; }
        fieldset { min-width: 0; border: 1px solid var(--line); border-radius: .6rem; margin: 0 0 1rem; padding: .5rem 1rem 1rem; }
        legend { font-weight: 600; padding: 0 .4rem; }
        pre, code { font: .875rem/1.5 ui-monospace, monospace; }
        pre { background: var(--soft); padding: .75rem; border-radius: .4rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
        .scroll { overflow-x: auto; }
        #receipt .scroll { max-height: 24rem; overflow-y: auto; }
        table { border-collapse: collapse; width: 100%; font-size: .9375rem; }
        th, td { text-align: left; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
        td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
        .state { font-weight: 600; }
        progress { width: 100%; height: .7rem; accent-color: var(--bar); }
        canvas { width: 100%; height: 16rem; display: block; }
        .legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .875rem; margin: .25rem 0; padding: 0; list-style: none; }
        .legend svg { width: 1.4rem; height: .8rem; vertical-align: middle; margin-right: .3rem; }
        .drop { border: 2px dashed var(--muted); border-radius: .6rem; padding: 1.5rem; text-align: center; }
        .drop.over { border-color: var(--accent); background: var(--soft); }
        .drop input { max-width: 26rem; margin: .5rem auto 0; }
        svg.bars { height: 1.6rem; width: 7rem; display: block; fill: var(--bar); }
        ol.events { list-style: none; margin: 0; padding: 0; max-height: 18rem; overflow-y: auto; font-size: .9375rem; }
        ol.events li { padding: .2rem 0; border-bottom: 1px solid var(--line); }
        details > summary { cursor: pointer; padding: .35rem 0; }
        .matrix td, .matrix th { text-align: right; padding: .35rem .6rem; border: 1px solid var(--line); }
        .matrix td.hit { font-weight: 700; }
        .method { display: inline-block; min-width: 4.5rem; font-weight: 600; }
        [hidden] { display: none !important; }
        @media (max-width: 30rem) { main { padding: .75rem; } canvas { height: 13rem; } }
        """#

    /// The common script of the pages.
    static let script = #"""
        export const $ = id => document.getElementById(id);

        // An element, its properties (attributes where it has none of that name) and its children.
        export const make = (name, properties = {}, ...children) => {
            const node = document.createElement(name);
            for (const [key, value] of Object.entries(properties)) {
                if (key in node && key !== 'list') node[key] = value; else node.setAttribute(key, value);
            }
            node.append(...children.filter(child => child !== null && child !== undefined));
            return node;
        };

        const csrf = document.querySelector('meta[name=csrf-token]').content;
        const base = document.documentElement.dataset.base;
        // A path of this server, below the path that a proxy has put before it.
        export const to = path => base + path;

        // The API, as the person who is signed in. What it refuses is an Error with the server's sentence.
        export const call = async (method, path, {body, form, signal} = {}) => {
            const headers = {Accept: 'application/json'};
            if (method !== 'GET') headers['X-CSRF-Token'] = csrf;
            if (body !== undefined) headers['Content-Type'] = 'application/json';
            let answer;
            try {
                answer = await fetch(to(path), {method, headers, body: form ?? (body === undefined ? undefined : JSON.stringify(body)), signal, credentials: 'same-origin'});
            } catch (error) {
                if (error.name === 'AbortError') throw error;
                throw new Error('the server does not answer: is it running, and are you on its network?');
            }
            if (answer.status === 401) { location.assign(to('/app/signin?next=' + encodeURIComponent(location.pathname.slice(base.length)))); }
            const text = await answer.text();
            const json = (answer.headers.get('content-type') ?? '').includes('json') && text ? JSON.parse(text) : text;
            if (!answer.ok) {
                const error = new Error(json.detail ?? `the server answered ${answer.status}`);
                error.code = json.code;
                throw error;
            }
            return json;
        };
        export const token = csrf;

        export const whole = value => Math.round(value).toLocaleString('en');
        export const percent = value => value === undefined || value === null ? '–' : `${(value * 100).toFixed(1)} %`;
        export const figure = value => value === undefined || value === null ? '–' : Math.abs(value) >= 1000 ? whole(value) : Number(value.toPrecision(4)).toString();
        export const bytes = value => {
            const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
            let unit = 0;
            while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
            return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
        };
        export const duration = seconds => seconds < .001 ? 'less than 1 ms' : seconds < 1 ? `${Math.round(seconds * 1000)} ms` : seconds < 120 ? `${seconds.toFixed(1)} s` : seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
        export const words = {PENDING: 'Getting ready', RUNNING: 'Training in progress', COMPLETED: 'Training completed', FAILED: 'Training failed', CANCELLED: 'Training cancelled',
            ONLINE: 'online, free', TRAINING: 'training', OFFLINE: 'offline'};
        export const tone = status => ({COMPLETED: 'good', ONLINE: 'good', FAILED: 'problem', CANCELLED: 'warning'}[status] ?? '');

        export const table = (heads, rows) => make('div', {className: 'scroll', tabIndex: 0, role: 'group', 'aria-label': 'Table'}, make('table', {},
            make('thead', {}, make('tr', {}, ...heads.map(head => make('th', {scope: 'col', className: head.number ? 'number' : '', textContent: head.name ?? head})))),
            make('tbody', {}, ...rows.map(cells => make('tr', {}, ...cells.map((cell, index) => {
                const data = make('td', {className: heads[index]?.number ? 'number' : ''});
                data.append(cell ?? '–');
                return data;
            }))))));

        // Copies the text of the element that data-copy names.
        for (const button of document.querySelectorAll('button[data-copy]')) {
            button.addEventListener('click', async () => {
                const place = $(button.dataset.copy);
                // Over plain HTTP a browser lets no script near the clipboard: the text is marked, to be copied by hand.
                if (!navigator.clipboard) { getSelection().selectAllChildren(place); button.textContent = 'Marked: press Ctrl-C'; return; }
                await navigator.clipboard.writeText(place.textContent.trim());
                button.textContent = 'Copied';
            });
        }
        """#
}
