/* runs.js -- fine-tuning: begin it, watch it, stop it, read what the gate said. */
import { all, get, modelPath, post, request } from './api.js';
import {
    announce,
    button,
    dialog,
    empty,
    field,
    fill,
    h,
    noModel,
    options,
    problem,
    put,
    table,
    toast,
    undone,
} from './dom.js';
import { chart, lines } from './figures.js';
import { ago, clockOf, count, duration, figure, moment, plural } from './format.js';
import { gateLine, gateTable } from './verdict.js';

const STRATEGIES = [
    ['joint', 'joint: from the base on everything stored (the best one)'],
    ['replay', 'replay: from the live one, new and old examples mixed (quicker)'],
    ['head', 'head: no steps, the head is rebuilt'],
    ['naive', 'naive: new examples only; it forgets, and is there to show it'],
];
const PHASES = [
    'waiting',
    'planning',
    'training',
    'writing',
    'embedding',
    'rebuilding',
    'gating',
    'swapping',
];
const TONE = {
    accepted: 'good',
    refused: 'warn',
    failed: 'bad',
    cancelled: '',
    running: 'good',
    queued: '',
};
const under = (run) => run.state === 'queued' || run.state === 'running';

/** What was typed, as a RunRequest; fields that are empty keep their defaults. */
function wanted(form) {
    const body = { strategy: form.strategy.value };
    for (const key of ['epochs', 'minutes_max', 'seed'])
        if (form[key].value !== '') body[key] = Number(form[key].value);
    if (form.margin.value !== '') body.margin = Number(form.margin.value) / 100;
    if (form.force.checked) body.force = true;
    return body;
}

function startForm(model, begun) {
    const number = (more) => h('input', { type: 'number', min: 0, step: 'any', ...more });
    const controls = {
        strategy: h('select', options(STRATEGIES)),
        epochs: number({ placeholder: '4' }),
        minutes_max: number({ placeholder: 'no end' }),
        seed: number({ step: 1, placeholder: '1' }),
        margin: number({ placeholder: '1.5' }),
        force: h('input', { type: 'checkbox' }),
    };
    const wrong = h('p.notice.bad', { role: 'alert', dir: 'auto', hidden: true });
    const form = h(
        'form',
        field('Strategy', controls.strategy),
        h(
            'details',
            h('summary', 'More'),
            h(
                'div.fields',
                field('Epochs', controls.epochs),
                field('Minutes at most', controls.minutes_max),
                field('Seed', controls.seed),
                field('Accuracy it may lose, %', controls.margin),
            ),
            h('label.check', controls.force, ' swap although the gate refuses'),
        ),
        wrong,
        h('div.row.end', h('button.primary', 'Begin a run')),
    );
    form.addEventListener('submit', async (event) => {
        event.preventDefault();
        wrong.hidden = true;
        try {
            const run = await post(modelPath(model.name, '/runs'), wanted(controls));
            toast(`Run ${run.run} is under way. Answers go on meanwhile.`);
            begun(run);
        } catch (error) {
            wrong.textContent = error.words ?? error.message;
            wrong.hidden = false;
        }
    });
    return form;
}

/** The run under way: redrawn as it moves, so that its button keeps the focus. */
function progress(cancel) {
    const meter = h('progress', { max: 1, value: 0, 'aria-label': 'Progress of this phase' });
    const title = h('h3'),
        phase = h('p.phases'),
        facts = h('p.meta');
    const stop = h('button', { type: 'button' }, 'Stop it');
    const node = h('div.progress', h('div.row.between', title, stop), phase, meter, facts);
    let run = null;
    stop.addEventListener('click', () => cancel(run));
    return {
        node,
        draw(fresh) {
            run = fresh;
            fill(
                title,
                `Run ${run.run}, ${run.strategy} `,
                h(
                    'span',
                    { class: `chip ${TONE[run.state]}` },
                    run.cancel ? 'stopping' : run.state,
                ),
            );
            const at = PHASES.indexOf(run.phase);
            fill(
                phase,
                PHASES.map((p, i) =>
                    h('span', { class: i < at ? 'past' : i === at ? 'now' : '' }, p),
                ),
            );
            if (run.steps > 0) meter.value = run.step / run.steps;
            else meter.removeAttribute('value');
            stop.disabled = run.cancel;
            const p = run.progress;
            fill(
                facts,
                run.steps > 0
                    ? `${run.phase}: ${count(run.step)} of ${count(run.steps)}`
                    : run.phase,
                p
                    ? [
                          ` · loss ${figure(p.loss)} · `,
                          `${figure(p.examples_per_s, 0)} examples/s · `,
                          p.eta_s === null ? '' : `about ${duration(p.eta_s)} left · `,
                          `${plural(p.examples, 'example')}, ${count(p.held_out)} kept out`,
                      ]
                    : '',
            );
        },
    };
}

function lossChart(run, signal) {
    const curve = run.metrics.filter((m) => m.loss !== null);
    return chart({
        title: 'Loss',
        signal,
        columns: ['Step', 'Loss', 'Gradient norm', 'Learning rate'],
        rows: () =>
            curve.map((m) => [count(m.step), figure(m.loss), figure(m.grad_norm), figure(m.lr, 6)]),
        says: () =>
            curve.length > 0
                ? `From ${figure(curve[0].loss)} to ${figure(curve.at(-1).loss)}.`
                : 'No steps.',
        make: (p) => ({
            type: 'line',
            data: {
                datasets: lines(curve, [['loss', 'loss', p.accent]], { x: 'step' }),
            },
            options: {
                scales: {
                    x: { type: 'linear', title: { text: 'step' } },
                    y: { beginAtZero: true },
                },
            },
        }),
    });
}

function drawDetails(place, run, signal) {
    const loss = run.metrics.length > 1 ? lossChart(run, signal) : null;
    const span = run.started ? `${moment(run.started)} to ${clockOf(run.ended)}` : 'not begun';
    fill(
        place,
        h(
            'p.meta',
            `${run.strategy}, seed ${run.seed} · ${span} · asked for by `,
            h('bdi', run.who),
        ),
        run.verdict
            ? [gateLine(run.verdict), gateTable(run.verdict)]
            : h('p.notice', { dir: 'auto' }, run.reason ?? 'It did not come to the gate.'),
        loss?.node,
        h('details', h('summary', 'Settings'), h('pre', JSON.stringify(run.settings, null, 2))),
    );
    loss?.draw();
}

function details(run) {
    const left = new AbortController();
    return dialog(
        `Run ${run.run}`,
        (close) => {
            const place = h('div.details', h('p.muted', 'Reading …'));
            get(`/v1/runs/${run.run}`).then(
                (whole) => drawDetails(place, whole, left.signal),
                (error) => fill(place, problem(error)),
            );
            return [
                place,
                h(
                    'div.row.end',
                    h(
                        'button',
                        { type: 'button', autofocus: true, onclick: () => close() },
                        'Close',
                    ),
                ),
            ];
        },
        { wide: true },
    ).then(() => left.abort());
}

const row = (run) => [
    button(`Run ${run.run}`, () => details(run), { class: 'link' }),
    run.strategy,
    h('span', { class: `chip ${TONE[run.state]}` }, run.state),
    run.verdict ? gateLine(run.verdict) : h('span.muted', { dir: 'auto' }, run.reason ?? '–'),
    ago(run.ended ?? run.created),
];

function show(main, view) {
    const { model, signal } = view;
    if (!model) {
        put(main, noModel());
        return;
    }
    const now = h('section.card', { 'aria-label': 'Run under way' }),
        past = h('div'),
        wrong = h('div');
    const form = startForm(model, () => load());
    const meter = progress(cancel);
    let timer = 0,
        was = null;

    async function load() {
        clearTimeout(timer);
        try {
            const rows = await all(`/v1/runs?model=${encodeURIComponent(model.name)}`, 'runs', {
                signal,
                most: 200,
            });
            const running = rows.find(under);
            if (running) {
                if (was === null) fill(now, h('h2', 'Under way'), meter.node);
                meter.draw(running);
            } else {
                if (was !== null || now.children.length === 0)
                    fill(
                        now,
                        h('h2', 'Fine-tune the encoder'),
                        h(
                            'p.hint',
                            'In the background, on what was taught. The candidate goes live only ' +
                                'if it is shown not to be worse.',
                        ),
                        form,
                    );
                const ended = rows.find((r) => r.run === was);
                if (ended) announce(`Run ${ended.run} has ended: ${ended.state}`);
            }
            was = running?.run ?? null;
            const ended = rows.filter((r) => !under(r));
            fill(
                past,
                ended.length === 0
                    ? empty('No run yet', 'When one has ended, the gate’s verdict stands here.')
                    : table(
                          'Runs that ended',
                          ['Run', 'Strategy', 'End', 'Verdict', '#When'],
                          ended.map(row),
                      ),
            );
            fill(wrong);
            if (running && !signal.aborted) timer = setTimeout(load, 2000);
        } catch (error) {
            if (error.name !== 'AbortError') fill(wrong, problem(error));
        }
    }

    async function cancel(run) {
        const stopped = await undone(
            `Stop run ${run.run}?`,
            'What it has done is lost. The live version stays.',
            'Stop it',
            () => request('DELETE', `/v1/runs/${run.run}`),
            `Run ${run.run} is being stopped.`,
        );
        if (stopped) load();
    }

    put(
        main,
        h('div.head', h('h1', 'Runs')),
        wrong,
        now,
        h('section.card', h('h2', 'Ended'), past),
    );
    let soon = 0;
    view.on('run', (e) => {
        if (e.model !== model.name) return;
        clearTimeout(soon);
        soon = setTimeout(() => {
            if (!signal.aborted) load();
        }, 100);
    });
    load();
}

export const runs = { id: 'runs', title: 'Runs', key: 'r', role: 'admin', show };
