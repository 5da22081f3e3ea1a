import CohortCore
import CohortSession
import CohortSystem
import CohortTraining
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// A CSV is looked at, the settings are chosen, and it starts.
struct NewSessionPage: Sendable {
    let pages: WebPages
    let strategies: [any Strategy]
    /// The folder for the rows of an inspection.
    let folder: String

    let uploadLimit: Int
    /// Looks block their thread.
    private let lanes = BlockingLanes("looks at CSVs", count: 1, limit: 32)

    init(pages: WebPages, strategies: [any Strategy], folder: String, uploadLimit: Int) {
        self.pages = pages
        self.strategies = strategies
        self.folder = folder
        self.uploadLimit = uploadLimit
    }

    /// Bytes of a CSV's beginning that a look is taken at.
    private static let most = 1 << 20

    static let template = #"""
        {{<layout}}{{$main}}
        <h1>New session</h1>
        <p id="onward" role="status" hidden></p>
        <form id="form">
        <fieldset><legend>Data</legend>
        <div class="drop" id="drop">
        <label for="file">Drop a CSV here, or choose one</label>
        <input id="file" type="file" accept=".csv,.tsv,.txt,.gz,.zip,text/csv">
        <p class="help">It goes to this server and to the machines that train. Up to {{limit}}.</p>
        </div>
        <p class="problem" id="file-problem" role="alert" hidden></p>
        <div id="look" hidden>
        <div class="grid">
        <div><label for="target">Column to predict</label><select id="target" name="target"></select></div>
        <div><label for="task">Task</label><select id="task" name="task"><option value="">detect automatically</option><option value="classification">classification</option><option value="regression">regression</option></select></div>
        </div>
        <p id="guess"></p>
        <ul id="warnings" class="warning"></ul>
        <div id="columns"></div>
        </div>
        </fieldset>
        <fieldset><legend>Training</legend>
        <div class="grid">
        <div><label for="peers">Machines</label><input id="peers" name="peers" type="number" min="1" max="10000" value="1" required aria-describedby="peers-help"><p class="help" id="peers-help">How many train. <span id="free"></span></p></div>
        <div><label for="strategy">Strategy</label><select id="strategy" name="strategy" aria-describedby="strategy-help">{{#strategies}}<option data-own="{{own}}" data-summary="{{summary}}">{{name}}</option>{{/strategies}}</select><p class="help" id="strategy-help"></p></div>
        <div><label for="rounds">Rounds</label><input id="rounds" name="rounds" type="number" min="1" max="100000" placeholder="chosen" aria-describedby="rounds-help"><p class="help" id="rounds-help">How often the machines' weights become one model. Empty: chosen by rows and machines, 10 to 100.</p></div>
        <div><label for="epochs">Epochs</label><input id="epochs" name="epochs" type="number" min="1" max="100000" placeholder="chosen" aria-describedby="epochs-help"><p class="help" id="epochs-help">Passes over its rows that a machine makes in a round. Empty: one.</p></div>
        <div><label for="batch_size">Batch size</label><input id="batch_size" name="batch_size" type="number" min="1" max="1000000" placeholder="chosen" aria-describedby="batch-help"><p class="help" id="batch-help">Rows a step. Smaller learns more from few rows, larger is faster. Empty: chosen.</p></div>
        <div><label for="lr">Learning rate</label><input id="lr" name="lr" type="number" min="0" step="any" value="0.001" aria-describedby="lr-help"><p class="help" id="lr-help">How far a step goes. 0.001 is a careful start; too large, and the loss jumps.</p></div>
        <div><label for="hidden">Hidden layers</label><input id="hidden" name="hidden" value="128,64" aria-describedby="hidden-help"><p class="help" id="hidden-help">Their widths, such as 128,64; none for a linear model.</p></div>
        <div><label for="module">Model</label><select id="module" name="module" aria-describedby="module-help"><option value="">SimpleDNN</option></select><label for="module-file" class="small">Add a module of your own</label><input id="module-file" type="file" accept=".safetensors"><p class="help" id="module-help">A PyTorch module that cohort.save_module wrote, on machines with PyTorch: docs/engines.md has more.</p></div>
        <div><label for="seed">Seed</label><input id="seed" name="seed" type="number" min="0" aria-describedby="seed-help"><p class="help" id="seed-help">The same seed holds out the same rows and begins with the same weights; empty: one is drawn.</p></div>
        <div><label for="name">Name</label><input id="name" name="name" maxlength="80" aria-describedby="session-name-help"><p class="help" id="session-name-help">To find it again.</p></div>
        </div>
        <details><summary>More settings</summary><div class="grid">
        <div><label for="optimizer">Optimizer</label><select id="optimizer" name="optimizer"><option>adam</option><option>adamw</option><option>sgd</option></select></div>
        <div><label for="dropout">Dropout</label><input id="dropout" name="dropout" type="number" min="0" max="0.95" step="any" value="0" aria-describedby="dropout-help"><p class="help" id="dropout-help">Reduces overfitting.</p></div>
        <div><label for="validation">Share held out</label><input id="validation" name="validation" type="number" min="0" max="0.9" step="any" value="0.2" aria-describedby="validation-help"><p class="help" id="validation-help">Rows that are not trained on, to measure with.</p></div>
        <div><label for="early_stopping">Early stopping</label><input id="early_stopping" name="early_stopping" type="number" min="1" aria-describedby="early-help"><p class="help" id="early-help">Stop after so many rounds without a better validation loss; empty: never.</p></div>
        <div><label for="class_weight">Class weights</label><select id="class_weight" name="class_weight"><option value="">none</option><option value="balanced">balanced: rare classes count more</option></select></div>
        <div><label for="pool">Whose machines</label><select id="pool" name="pool" aria-describedby="pool-help"><option value="mine">mine</option><option value="everyone">those lent to everyone too</option></select><p class="help" id="pool-help">Every machine that trains receives the data.</p></div>
        </div>
        {{#groups}}<h2 class="small">{{title}}</h2><div class="grid">
        {{#settings}}<div><label for="{{name}}">{{label}}</label>{{#choices}}<select id="{{name}}" name="{{name}}" aria-describedby="{{name}}-help">{{#options}}<option{{#chosen}} selected{{/chosen}}>{{text}}</option>{{/options}}</select>{{/choices}}{{^choices}}<input id="{{name}}" name="{{name}}" {{&input}} value="{{standard}}" aria-describedby="{{name}}-help">{{/choices}}<p class="help" id="{{name}}-help">{{help}}</p></div>
        {{/settings}}</div>{{/groups}}</details>
        <details id="each" hidden><summary>Settings per machine</summary><p class="help">Leave a field empty to use the setting above.</p><div id="overrides"></div></details>
        </fieldset>
        <p id="estimate" class="muted" role="status"></p>
        <p class="problem" id="problem" role="alert" hidden></p>
        <div id="sending" hidden><label for="upload">Upload</label><progress id="upload" max="1" value="0"></progress> <span id="sent" class="muted small" role="status"></span></div>
        <p><button id="start" disabled>Start training</button></p>
        </form>
        {{/main}}{{/layout}}
        """#

    /// The settings that the template does not list itself, by group.
    private static var furtherSettings: [[String: Any]] {
        // Settings that come from the inspection, are drawn at random, or have other controls.
        let others = ["per_peer", "header", "use", "ignore", "category", "number", "group", "scaling", "from", "note"]
        let further = SessionSetting.all.filter { !others.contains($0.name) && !template.contains("name=\"\($0.name)\"") }
        return SessionSetting.Group.allCases.compactMap { group in
            let settings = further.filter { $0.group == group }.map(input)
            return settings.isEmpty ? nil : ["title": group.rawValue.capitalized, "settings": settings]
        }
    }

    private static func input(_ setting: SessionSetting) -> [String: Any] {
        var shown: [String: Any] = [
            "name": setting.name, "label": setting.label, "help": setting.help,
            "standard": setting.standard ?? "", "input": "type=\"text\"",
        ]
        switch setting.kind {
        case .whole(let range):
            shown["input"] = "type=\"number\" min=\"\(range.lowerBound)\" max=\"\(range.upperBound)\""
        case .number: shown["input"] = "type=\"number\" min=\"0\" step=\"any\""
        case .flag: shown["choices"] = Self.options(["false", "true"], standard: setting.standard)
        case .choice(let values): shown["choices"] = Self.options(values, standard: setting.standard)
        case .text: break
        }
        return shown
    }

    /// Without a default, an empty option comes first: a browser always sends the chosen one.
    private static func options(_ values: [String], standard: String?) -> [String: Any] {
        ["options": ((standard == nil ? [""] : []) + values).map { ["text": $0, "chosen": $0 == standard ?? ""] as [String: Any] }]
    }

    static let script = #"""
        import {$, make, call, token, whole, bytes, table, figure, duration, to} from './app.js';

        const file = $('file'), drop = $('drop'), form = $('form');
        let chosen = null;
        const say = (id, text) => { $(id).textContent = text ?? ''; $(id).hidden = !text; };

        const bars = counts => {
            const most = Math.max(1, ...counts);
            const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
            svg.setAttribute('viewBox', `0 0 ${counts.length * 10} 24`);
            svg.setAttribute('preserveAspectRatio', 'none');
            svg.setAttribute('class', 'bars');
            svg.setAttribute('aria-hidden', 'true');
            counts.forEach((count, index) => {
                const bar = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
                const height = Math.max(count > 0 ? 1 : 0, 24 * count / most);
                for (const [key, value] of Object.entries({x: index * 10 + 1, y: 24 - height, width: 8, height})) bar.setAttribute(key, value);
                svg.append(bar);
            });
            return svg;
        };

        // Training goes on from a model: its columns, target and shape stay.
        const from = new URLSearchParams(location.search).get('from');
        let source = null;
        const goOn = async () => {
            source = await call('GET', `/sessions/${from}`);
            const place = make('a', {href: to(`/app/session/${from}`), textContent: source.settings.name ?? source.filename});
            $('onward').replaceChildren('Training goes on from the model of ', place, `, which predicts '${source.dataset.target}'. The CSV needs the columns that it was made from.`);
            $('onward').hidden = false;
            $('hidden').value = source.settings.hidden.join(',') || 'none';
            $('dropout').value = source.settings.dropout;
            $('name').value = source.settings.name ?? '';
            for (const fixed of ['hidden', 'dropout', 'activation', 'target', 'task']) $(fixed).disabled = true;
        };

        // A custom module has its own layers.
        const listModules = async chosenOne => {
            const modules = await call('GET', '/modules');
            $('module').replaceChildren(make('option', {value: '', textContent: 'SimpleDNN'}), ...modules.map(module => make('option', {value: module.sha256,
                textContent: `${module.input_shape.length ? module.input_shape.join(' × ') : module.inputs} → ${module.outputs}, ${whole(module.parameters)} parameters (${module.sha256.slice(0, 8)})`})));
            $('module').value = chosenOne ?? '';
            takeModule();
        };
        const takeModule = () => {
            for (const own of ['hidden', 'dropout', 'activation']) $(own).disabled = source !== null || $('module').value !== '';
            estimate();
        };
        $('module').addEventListener('change', takeModule);
        $('module-file').addEventListener('change', async () => {
            const picked = $('module-file').files[0];
            if (!picked) return;
            say('problem');
            try {
                const added = await call('POST', '/modules', {form: picked});
                await listModules(added.sha256);
            } catch (error) { say('problem', error.message); }
            $('module-file').value = '';
        });

        const uses = new Map();
        const show = (look, keepsTarget) => {
            if (!keepsTarget) $('target').replaceChildren(...look.columns.map(column => make('option', {value: column.name, textContent: column.name, selected: column.kind === 'target'})));
            $('guess').textContent = `${whole(look.rows)} ${look.is_whole ? 'rows' : 'rows looked at, of more'}; '${look.target}' is predicted as ${look.task === 'classification' ? `one of ${look.classes.length} classes` : 'a quantity'}.`;
            $('warnings').replaceChildren(...look.warnings.map(text => make('li', {textContent: text})));
            $('columns').replaceChildren(table(['Column', 'Type', {name: 'Missing', number: true}, 'Values', 'Note'], look.columns.map(column => {
                const role = make('select', {'aria-label': `what to do with ${column.name}`},
                    make('option', {value: '', textContent: column.kind === 'ignored' ? 'not used' : column.kind}),
                    ...(column.kind === 'target' ? [] : [column.kind === 'ignored' ? make('option', {value: 'use', textContent: 'use'}) : make('option', {value: 'ignore', textContent: 'do not use'})]),
                    ...(column.kind === 'numeric' ? [make('option', {value: 'category', textContent: 'categorical'})] : []),
                    ...(column.kind === 'categorical' && (column.examples ?? []).length && column.examples.every(text => /^\d+$/.test(text)) ? [make('option', {value: 'number', textContent: 'numeric'})] : []));
                role.value = uses.get(column.name) ?? '';
                if (role.value === '' ) role.selectedIndex = 0;
                role.disabled = source !== null || column.kind === 'target';
                role.addEventListener('change', () => { uses.set(column.name, role.value); });
                const values = make('div', {}, bars(column.counts), make('span', {className: 'muted small', textContent: column.kind === 'numeric' && column.least !== undefined ? `${figure(column.least)} to ${figure(column.most)}` : (column.examples ?? []).join(', ')}));
                return [make('strong', {textContent: column.name}), role, whole(column.missing), values, make('span', {className: 'small', textContent: column.note ?? ''})];
            })));
            $('look').hidden = false;
            $('start').disabled = false;
            rows = look.is_whole ? look.rows : Math.round(look.rows * chosen.size / 1048576);
            inputs = look.columns.reduce((sum, column) => sum + (column.kind === 'categorical' ? column.counts.length : ['numeric', 'date'].includes(column.kind) ? 1 : 0), 0);
            outputs = look.task === 'classification' ? look.classes.length : 1;
            estimate();
        };

        // The beginning of the file alone: a long one is not sent twice.
        const look = async keepsTarget => {
            say('file-problem');
            try {
                const query = new URLSearchParams({whole: chosen.size <= 1048576});
                if (source) { query.set('target', source.dataset.target); query.set('task', source.dataset.task); }
                else if (keepsTarget) query.set('target', $('target').value);
                if (!source && $('task').value) query.set('task', $('task').value);
                const answer = await fetch(to(`/app/look?${query}`), {method: 'POST', headers: {'X-CSRF-Token': token, 'Content-Type': 'text/csv'}, body: chosen.slice(0, 1048576)});
                const body = await answer.json();
                if (!answer.ok) throw new Error(body.detail);
                show(body, keepsTarget);
            } catch (error) {
                $('look').hidden = true;
                $('start').disabled = true;
                say('file-problem', error.message);
            }
        };
        const choose = async picked => {
            if (!picked) return;
            chosen = picked;
            uses.clear();
            $('task').value = '';
            await look(false);
        };
        file.addEventListener('change', () => choose(file.files[0]));
        for (const name of ['dragenter', 'dragover']) drop.addEventListener(name, event => { event.preventDefault(); drop.classList.add('over'); });
        for (const name of ['dragleave', 'drop']) drop.addEventListener(name, event => { event.preventDefault(); drop.classList.remove('over'); });
        drop.addEventListener('drop', event => choose(event.dataTransfer.files[0]));
        $('target').addEventListener('change', () => look(true));
        $('task').addEventListener('change', () => look(true));

        // Will it help? From the peers' measured speeds (on a net 64-128-64-10), the rows and the net; shares go by speed.
        let free = [], rows = 0, inputs = 0, outputs = 1;
        const estimate = () => {
            // The time of a custom module's step is unknown.
            if ($('module').value) { $('estimate').textContent = ''; return; }
            const count = Number($('peers').value), widths = $('hidden').value === 'none' ? [] : $('hidden').value.split(',').map(Number);
            if (!rows || !free.length || !(count > 0) || widths.some(width => !(width > 0))) { $('estimate').textContent = ''; return; }
            const sizes = [inputs, ...widths, outputs];
            const weights = sizes.slice(1).reduce((sum, size, index) => sum + size * sizes[index], 0);
            const speeds = free.map(peer => [peer.name, peer.samples_per_second * 17024 / Math.max(weights, 1)]).sort(([, a], [, b]) => b - a);
            const steps = Number($('local_steps').value), ofSteps = steps * Number($('batch_size').value || 32);
            const passes = rows * (1 - Number($('validation').value || 0)) * Number($('epochs').value || 1);
            // Of so many steps each makes all: the slowest decides.
            const seconds = many => steps ? ofSteps / speeds[many - 1][1] : passes / speeds.slice(0, many).reduce((sum, [, speed]) => sum + speed, 0);
            const isAlone = $('strategy').selectedOptions[0].dataset.own === 'true';
            const shown = [...new Set([1, 2, Math.min(count, free.length), free.length])].filter(many => many <= free.length).sort((a, b) => a - b);
            const times = isAlone ? `about ${duration((steps ? ofSteps : passes) / speeds[Math.min(count, free.length) - 1][1])}, as each trains on all rows`
                : shown.map(many => `${many === 1 ? 'one machine' : `${many} machines`} about ${duration(seconds(many))}`).join(', ');
            const slowest = speeds[Math.min(count, free.length) - 1];
            const tiny = !isAlone && !steps && seconds(1) < .05 ? ' With so little work, more machines do not help: sending the weights takes longer than training.' : '';
            $('estimate').textContent = `Computing ${isAlone ? 'takes' : 'a round takes'} ${times}; the slowest of them is ${slowest[0]} (${whole(slowest[1])} rows/s of this net). The network comes on top: each machine receives and sends ${bytes(4 * weights)} a round.${tiny}`;
        };
        const explain = () => { $('strategy-help').textContent = $('strategy').selectedOptions[0].dataset.summary; };
        $('strategy').addEventListener('input', explain);
        explain();
        for (const name of ['peers', 'hidden', 'epochs', 'strategy', 'validation', 'local_steps', 'batch_size']) $(name).addEventListener('input', estimate);

        try { await listModules(); } catch (error) { say('problem', error.message); }
        if (from) try { await goOn(); $('module').disabled = $('module-file').disabled = true; } catch (error) { say('problem', error.message); }
        try {
            const peers = await call('GET', '/peers');
            free = peers.filter(peer => peer.status === 'ONLINE' && peer.mine);
            $('peers').value = Math.max(1, free.length);
            $('free').textContent = free.length === 1 ? 'One of yours is free.' : `${free.length} of yours are free.`;
            estimate();
            $('each').hidden = free.length === 0;
            $('overrides').replaceChildren(table(['Machine', 'Batch size', 'Epochs', 'Learning rate'], free.map(peer => [make('strong', {textContent: peer.name}),
                ...[['batch_size', 'batch size', 1], ['epochs', 'epochs', 1], ['lr', 'learning rate', 'any']].map(([field, words, step]) => make('input', {type: 'number', min: 0, step, 'data-peer': peer.name, 'data-field': field, 'aria-label': `${words} of ${peer.name}`}))])));
        } catch (error) { say('problem', error.message); }

        form.addEventListener('submit', async event => {
            event.preventDefault();
            say('problem');
            const fields = {};
            for (const [name, value] of new FormData(form)) if (typeof value === 'string' && value.trim() !== '') fields[name] = value.trim();
            if ($('strategy').selectedOptions[0].dataset.own === 'true') delete fields.rounds;
            if (source) fields.from = from;
            const picked = what => [...uses].filter(([, use]) => use === what).map(([name]) => name);
            for (const what of ['use', 'ignore', 'category', 'number']) if (picked(what).length) fields[what] = JSON.stringify(picked(what));
            const each = {};
            for (const input of $('overrides').querySelectorAll('input')) if (input.value !== '') (each[input.dataset.peer] ??= {})[input.dataset.field] = Number(input.value);
            if (Object.keys(each).length) fields.per_peer = JSON.stringify(each);
            $('start').disabled = true;
            try {
                await call('POST', '/sessions/check', {body: fields});
                const body = new FormData();
                for (const [name, value] of Object.entries(fields)) body.append(name, value);
                body.append('file', chosen, chosen.name);
                $('sending').hidden = false;
                // fetch tells nothing of an upload's bytes.
                const request = new XMLHttpRequest();
                request.open('POST', to('/sessions/start'));
                request.setRequestHeader('X-CSRF-Token', token);
                request.upload.addEventListener('progress', at => { $('upload').max = at.total; $('upload').value = at.loaded; $('sent').textContent = `${bytes(at.loaded)} of ${bytes(at.total)}`; });
                const answer = await new Promise((resolve, reject) => {
                    request.addEventListener('load', () => resolve(JSON.parse(request.responseText)));
                    request.addEventListener('error', () => reject(new Error('the connection to the server broke: start again')));
                    request.send(body);
                });
                if (!answer.session_id) throw new Error(answer.detail);
                location.assign(to(`/app/session/${answer.session_id}`));
            } catch (error) {
                say('problem', error.message);
                $('sending').hidden = true;
                $('start').disabled = false;
            }
        });
        """#

    var routes: [Route] {
        [
            pages.route(.get, "/app/new", summary: "The page of a new session") { request, _ in
                guard let person = try await pages.person(request) else { return pages.redirect(to: "/app/signin?next=/app/new") }
                return pages.page(
                    request, template: "new", title: "New session", person: person.name, scripts: ["new.js"],
                    values: [
                        "strategies": strategies.map { ["name": $0.name, "summary": $0.summary, "own": "\($0.trainsOwnModels)"] },
                        "groups": Self.furtherSettings,
                        "limit": uploadLimit >= 1 << 30 ? "\(uploadLimit >> 30) GiB" : "\(max(1, uploadLimit >> 20)) MiB",
                    ])
            },
            pages.route(.post, "/app/look", summary: "What a CSV's beginning looks like") { request, _ in
                _ = try await pages.authenticator.caller(of: request, scope: .user)
                let bytes = try await request.bytes(upTo: Self.most)
                let isWhole = request.query("whole") == "true"
                let target = request.query("target")
                let task = try request.query("task").map { text in
                    guard let task = LearningTask(rawValue: text) else {
                        throw CohortError(.invalid, "task is '\(text.printable(max: 40))'; it must be classification or regression")
                    }
                    return task
                }
                let csv = [UInt8](buffer: bytes)
                return try .json(
                    try await lanes.run { [folder] in
                        try CSVLook.take(csv, isWhole: isWhole, target: target, task: task, folder: folder)
                    })
            },
        ]
    }
}
