/* app.js -- the frame around the views: which is shown, which model it is about, who looks at it.
 *
 * A view is {id, title, key, role, show(main, view)}; `view` gives it a signal that is aborted when
 * it is left, and helpers bound to it. A view is shown anew when another model is chosen.
 */
import { key, session, setKey } from './api.js';
import { announce, confirmed, dialog, failed, field, fill, h, options, toast } from './dom.js';
import { count, plural } from './format.js';
import { listen, live } from './live.js';
import { newModel } from './models.js';
import { bind, showShortcuts, startShortcuts } from './shortcuts.js';
import {
    annotator,
    changes,
    chooseModel,
    enter,
    may,
    refreshModel,
    refreshModels,
    setAnnotator,
    state,
} from './state.js';
import { annotate } from './annotate.js';
import { ask } from './ask.js';
import { keys } from './keys.js';
import { labels } from './labels.js';
import { quality } from './quality.js';
import { runs } from './runs.js';
import { signIn } from './signin.js';
import { versions } from './versions.js';

const VIEWS = [ask, annotate, labels, quality, versions, runs, keys];
const main = document.getElementById('main');
const picker = document.getElementById('model');
let left = new AbortController(); /* of the view that is shown */
let shownModel; /* its name; undefined: the view has to be shown anew */
let asking = false; /* a key is being asked for */

const visible = (view) => may(view.role) && (view.id !== 'keys' || state.hasKeys);
const wanted = () => location.hash.replace(/^#\//, '').split('/')[0] || 'ask';

function drawTabs(chosen) {
    fill(
        document.getElementById('tabs'),
        VIEWS.filter(visible).map((view) =>
            h(
                'a',
                {
                    href: `#/${view.id}`,
                    'aria-current': view === chosen ? 'page' : null,
                    title: `g ${view.key}`,
                    'data-title': view.title,
                },
                view.title,
            ),
        ),
    );
    document
        .querySelector('.tabs [aria-current]')
        ?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
}

/** Shows the view that the address names. */
function show({ focus = true } = {}) {
    const view = VIEWS.find((v) => v.id === wanted() && visible(v)) ?? VIEWS.find(visible);
    if (!view) return;
    left.abort();
    left = new AbortController();
    const { signal } = left;
    drawTabs(view);
    document.title = `${view.title} · learnd`;
    main.dataset.view = view.id;
    fill(main);
    view.show(main, {
        signal,
        model: state.model,
        on: (type, run) => live.addEventListener(type, (e) => run(e.detail), { signal }),
        keys: (title, list) => bind(title, list, signal),
        again: () => show({ focus: false }),
    });
    if (focus && !main.contains(document.activeElement)) main.focus({ preventScroll: true });
    if (focus) announce(view.title);
}

function drawPicker() {
    const rows = state.models.map((m) => [m.name, m.name]);
    if (may('admin')) rows.push(['', 'New model …']);
    fill(picker, options(rows, state.model?.name));
    picker.disabled = rows.length === 0;
}

function drawVersion() {
    const m = state.model;
    fill(document.getElementById('version'), m ? m.version : '');
    document.getElementById('pulse').title = m
        ? `${m.name}: ${plural(m.examples, 'example')}, ${plural(m.labels, 'label')}`
        : '';
}

async function pick() {
    if (picker.value !== '') {
        chooseModel(picker.value);
        return;
    }
    const name = await newModel();
    if (name) {
        await refreshModels(name).catch(failed);
        toast(`Model ${name} is there. Teach it its first label.`);
    } else {
        drawPicker();
    }
}

const THEMES = { auto: '◐', light: '☀', dark: '☾' };
const theme = () => document.documentElement.dataset.theme ?? 'auto';

function drawTheme() {
    const button = document.getElementById('theme');
    fill(button, THEMES[theme()]);
    button.setAttribute('aria-label', `Theme: ${theme()}`);
    button.title = `Theme: ${theme()} (t)`;
}

function turnTheme() {
    const order = Object.keys(THEMES);
    const next = order[(order.indexOf(theme()) + 1) % order.length];
    if (next === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
        localStorage.setItem('learnd-theme', next);
    } catch {
        /* until the page is left */
    }
    drawTheme();
    announce(`Theme: ${next}`);
    changes.dispatchEvent(new Event('theme'));
}

function showMenu() {
    const input = h('input', {
        type: 'text',
        maxlength: 128,
        value: annotator(),
        autocomplete: 'off',
        spellcheck: 'false',
    });
    input.addEventListener('input', () => setAnnotator(input.value.trim()));
    const who = state.me.key
        ? `Signed in as ${state.me.key.name} (${state.me.role}).`
        : key()
          ? `Signed in (${state.me.role}).`
          : 'This daemon asks for no key here.';
    const info = state.info;
    return dialog('You and this page', (close) => [
        h(
            'form',
            {
                onsubmit: (event) => {
                    event.preventDefault();
                    close();
                },
            },
            field(
                'Your name, as annotator',
                input,
                'Your votes carry it: a later one on the same text replaces the earlier one.',
            ),
            h(
                'dl.facts',
                h('dt', 'You'),
                h('dd', { dir: 'auto' }, who),
                info && [
                    h('dt', 'Daemon'),
                    h('dd', `learnd ${info.version}`),
                    h('dt', 'Encoder'),
                    h(
                        'dd',
                        { dir: 'auto' },
                        `${info.encoder.name}, ${count(info.encoder.parameters)} parameters`,
                    ),
                ],
            ),
            h(
                'div.row.between',
                key()
                    ? h(
                          'button',
                          {
                              type: 'button',
                              onclick: () => {
                                  close();
                                  signOut();
                              },
                          },
                          'Sign out',
                      )
                    : h('span'),
                h('button.primary', 'Done'),
            ),
        ),
    ]);
}

async function signOut() {
    if (!(await confirmed('Sign out?', 'The key is forgotten by this tab.', 'Sign out'))) return;
    setKey('');
    location.reload();
}

async function begin() {
    try {
        shownModel = undefined;
        await enter();
        listen();
    } catch (error) {
        if (error.status === 401) return; /* `signin` was told */
        fill(
            main,
            h(
                'div.empty',
                h('p.empty-title', { role: 'alert' }, error.words ?? String(error)),
                h('button', { type: 'button', onclick: begin }, 'Try again'),
            ),
        );
    }
}

session.addEventListener('signin', async () => {
    if (asking) return;
    asking = true;
    left.abort();
    for (const open of document.querySelectorAll('dialog[open]')) open.close();
    document.getElementById('tabs').replaceChildren();
    await signIn(main);
    asking = false;
    begin();
});

function follow() {
    const pulse = document.getElementById('pulse');
    let timer = 0;
    live.addEventListener('state', (event) => {
        pulse.dataset.state = event.detail;
        pulse.setAttribute(
            'aria-label',
            event.detail === 'on' ? 'Live updates are on' : 'Live updates are off',
        );
    });
    const soon = (event) => {
        const about = event.detail?.model;
        if (about !== null && about !== state.model?.name) return;
        clearTimeout(timer);
        timer = setTimeout(() => refreshModel().catch(() => {}), 150);
    };
    live.addEventListener('swap', soon);
    live.addEventListener('label', soon);
    for (const type of ['model', 'reset'])
        live.addEventListener(type, () => refreshModels().catch(() => {}));
    live.addEventListener('warning', (event) =>
        toast(`Warning: ${event.detail.detail}`, { kind: 'bad' }),
    );
    live.addEventListener('drift', (event) => {
        const { model, detector, measure } = event.detail;
        toast(`Drift in ${model}: ${detector} says that ${measure} has moved.`, { kind: 'bad' });
    });
}

changes.addEventListener('model', () => {
    drawPicker();
    drawVersion();
    if (state.model?.name !== shownModel) show({ focus: false });
    shownModel = state.model?.name;
});
changes.addEventListener('figures', drawVersion);
addEventListener('hashchange', () => show());
picker.addEventListener('change', pick);
document.getElementById('theme').addEventListener('click', turnTheme);
document.getElementById('menu').addEventListener('click', showMenu);
document.getElementById('help').addEventListener('click', showShortcuts);

bind('Everywhere', [
    { keys: ['?'], says: 'this list', run: showShortcuts },
    { keys: ['t'], says: 'light, dark or as the system', run: turnTheme },
    { keys: ['m'], says: 'choose the model', run: () => picker.focus() },
]);
bind(
    'Go to',
    VIEWS.map((view) => ({
        keys: [`g ${view.key}`],
        says: view.title,
        run: () => {
            if (visible(view)) location.hash = `#/${view.id}`;
        },
    })),
);
startShortcuts();
drawTheme();
follow();
begin();
