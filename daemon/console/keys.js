/* keys.js -- who may call: keys made, shown once, revoked; and what was done with them. */
import { all, get, post, remove } from './api.js';
import {
    button,
    confirmed,
    dialog,
    empty,
    failed,
    field,
    fill,
    h,
    options,
    problem,
    put,
    table,
    toast,
} from './dom.js';
import { ago, moment } from './format.js';
import { state } from './state.js';

const ROLES = [
    ['predict', 'predict: ask'],
    ['annotate', 'annotate: ask and teach'],
    ['admin', 'admin: everything'],
];

/** The key itself, the only time it is seen. */
function once(made) {
    return dialog(`The key of ${made.name}`, (close) => {
        const shown = h('input', {
            type: 'text',
            readonly: true,
            value: made.key,
            class: 'mono',
            'aria-label': 'Key',
        });
        shown.addEventListener('focus', () => shown.select());
        const copy = h(
            'button',
            {
                type: 'button',
                class: 'primary',
                autofocus: true,
                onclick: async () => {
                    try {
                        await navigator.clipboard.writeText(made.key);
                        toast('Copied.');
                    } catch {
                        shown.focus();
                        toast(
                            'The browser does not let this page copy: it is marked, press Ctrl+C.',
                            { kind: 'bad' },
                        );
                    }
                },
            },
            'Copy',
        );
        return [
            h('p.notice', 'It is shown this once and not kept: copy it now.'),
            h('div.row', h('div.grow', shown), copy),
            h('div.row.end', h('button', { type: 'button', onclick: () => close() }, 'I have it')),
        ];
    });
}

function makeForm(made) {
    const name = h('input', { type: 'text', required: true, maxlength: 128, autocomplete: 'off' });
    const role = h('select', options(ROLES, 'annotate'));
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
            form.reset();
            await once(fresh);
            made();
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
            const none = empty(
                'No keys yet',
                'Without any, the daemon listens on this machine alone, and everyone here is an ' +
                    'administrator. The first key ends that: it must be one of role admin.',
            );
            fill(
                place,
                rows.length === 0
                    ? none
                    : table(
                          'Keys',
                          ['Name', 'Role', 'Limit', 'Made', 'Ends', ''],
                          rows.map(keyRow),
                      ),
            );
            const { audit } = await get('/v1/audit?limit=50', { signal });
            fill(
                trail,
                audit.length === 0
                    ? empty('Nothing yet', 'What administrators do is written down here.')
                    : table('Audit trail', ['When', 'Who', 'What', 'Object'], audit.map(auditRow)),
            );
        } catch (error) {
            if (error.name !== 'AbortError') fill(place, problem(error));
        }
    }

    const auditRow = (a) => [
        moment(a.time),
        h('bdi', a.name ?? '–'),
        a.action,
        h('bdi', String(a.object ?? '–')),
    ];

    function keyRow(k) {
        const mine = state.me.key?.id === k.id;
        const end = k.revoked
            ? `revoked ${ago(k.revoked)}`
            : k.expires_at
              ? moment(k.expires_at)
              : 'never';
        return {
            class: k.revoked ? 'past' : null,
            cells: [
                [h('bdi', k.name), mine ? [' ', h('span.chip.good', 'yours')] : null],
                k.role,
                k.rate_per_s ? `${k.rate_per_s}/s` : '–',
                ago(k.created),
                end,
                k.revoked
                    ? null
                    : button('Revoke', () => revoke(k, mine), {
                          class: 'small',
                          'aria-label': `Revoke ${k.name}`,
                      }),
            ],
        };
    }

    async function revoke(k, mine) {
        const yes = await confirmed(
            `Revoke ${k.name}?`,
            ['Who calls with it is refused from now on.', mine && ' You are signed in with it.'],
            'Revoke',
            { danger: true },
        );
        if (!yes) return;
        try {
            await remove(`/v1/keys/${encodeURIComponent(k.id)}`);
            toast(`${k.name} is revoked.`);
            load();
        } catch (error) {
            failed(error);
        }
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
