/* keys.js -- who may call: keys made, shown once, revoked; and what was done with them. */
import { all, get, key, post, remove, setKey } from './api.js';
import {
    button,
    dialog,
    empty,
    field,
    fill,
    h,
    options,
    problem,
    put,
    table,
    textInput,
    toast,
    undone,
} from './dom.js';
import { ago, count, moment } from './format.js';
import { state } from './state.js';

const ROLES = [
    ['predict', 'predict: ask'],
    ['annotate', 'annotate: ask and teach'],
    ['admin', 'admin: everything'],
];

const HEADS = ['Name', 'Role', 'Limit', '#Requests', '#Corrections', 'Last used', 'Ends', ''];
const ACTS = ['When', 'Who', 'What', 'Object', 'From'];

const actRow = (a) => [
    moment(a.time),
    h('bdi', a.who),
    a.action.replaceAll('_', ' '),
    h('bdi.said', a.object),
    a.address,
];

const noKeys = () =>
    empty(
        'No keys yet',
        'Without any, the daemon listens on this machine alone, and everyone here is an ' +
            'administrator. The first key ends that: it must be one of role admin, without end.',
    );

const noActs = () => empty('Nothing yet', 'What administrators and annotators do stands here.');

/** The key itself, the only time it is seen. */
function once(made) {
    return dialog(`The key of ${made.name}`, (close) => {
        const shown = textInput({ readonly: true, value: made.key, class: 'mono' });
        shown.setAttribute('aria-label', 'Key');
        shown.addEventListener('focus', () => shown.select());
        const copy = async () => {
            try {
                await navigator.clipboard.writeText(made.key);
                toast('Copied.');
            } catch {
                shown.focus();
                toast('This page may not copy: the key is marked, press Ctrl+C.', { kind: 'bad' });
            }
        };
        return [
            h('p.notice', 'It is shown this once and never again: copy it now.'),
            h('div.row', h('div.grow', shown), button('Copy', copy, { class: 'primary' })),
            h(
                'div.row.end',
                button('I have it', () => close(true), { autofocus: true }),
            ),
        ];
    });
}

function makeForm(made) {
    const name = textInput({ required: true });
    const role = h('select', options(ROLES, state.me.key ? 'annotate' : 'admin'));
    const rate = h('input', { type: 'number', min: 0, step: 'any', placeholder: 'no limit' });
    const until = h('input', { type: 'datetime-local' });
    const wrong = h('p.notice.bad', { role: 'alert', dir: 'auto', hidden: true });
    const form = h(
        'form',
        h(
            'div.fields',
            field('For whom', name),
            field('Role', role),
            field('Requests a second', rate),
            field('Until', until),
        ),
        wrong,
        h('div.row.end', h('button.primary', 'Make a key')),
    );
    form.addEventListener('submit', async (event) => {
        event.preventDefault();
        wrong.hidden = true;
        const body = { name: name.value.trim(), role: role.value };
        if (rate.value !== '') body.rate_per_s = Number(rate.value);
        if (until.value !== '') body.expires_at = new Date(until.value).toISOString();
        try {
            const fresh = await post('/v1/keys', body);
            const first = key() === '';
            if (first) setKey(fresh.key); /* at once: from now on nobody is let in without */
            form.reset();
            await once(fresh);
            if (first) location.reload();
            else made();
        } catch (error) {
            wrong.textContent = error.words ?? error.message;
            wrong.hidden = false;
        }
    });
    return form;
}

function show(main, view) {
    const { signal } = view;
    const place = h('div'),
        trail = h('div');

    async function load() {
        try {
            const rows = await all('/v1/keys', 'keys', { signal });
            fill(place, rows.length > 0 ? table('Keys', HEADS, rows.map(keyRow)) : noKeys());
            const { audit } = await get('/v1/audit?limit=50', { signal });
            fill(trail, audit.length > 0 ? table('Trail', ACTS, audit.map(actRow)) : noActs());
        } catch (error) {
            if (error.name !== 'AbortError') fill(place, problem(error));
        }
    }

    function keyRow(k) {
        const mine = state.me.key?.id === k.id;
        const until = k.expires_at ? moment(k.expires_at) : 'never';
        const says = { class: 'small', 'aria-label': `Revoke ${k.name}` };
        return {
            class: k.state === 'active' ? null : 'past',
            cells: [
                [h('bdi', k.name), mine ? [' ', h('span.chip.good', 'yours')] : null],
                k.role,
                k.rate_per_s ? `${k.rate_per_s}/s` : '–',
                count(k.requests),
                count(k.corrections),
                k.last_used ? ago(k.last_used) : '–',
                k.revoked ? `revoked ${ago(k.revoked)}` : until,
                k.revoked ? null : button('Revoke', () => revoke(k, mine), says),
            ],
        };
    }

    async function revoke(k, mine) {
        const revoked = await undone(
            `Revoke ${k.name}?`,
            ['Who calls with it is refused from now on.', mine && ' You are signed in with it.'],
            'Revoke',
            () => remove(`/v1/keys/${encodeURIComponent(k.id)}`),
            `${k.name} is revoked.`,
        );
        if (revoked) load();
    }

    put(
        main,
        h('div.head', h('h1', 'Keys')),
        h('section.card', h('h2', 'A new key'), makeForm(load)),
        h('section.card', h('h2', 'Keys'), place),
        h('section.card', h('h2', 'What was done'), trail),
    );
    load();
}

export const keys = { id: 'keys', title: 'Keys', key: 'k', role: 'admin', show };
