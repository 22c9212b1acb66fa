/* versions.js -- which encoders a model holds, what the gate said of each, the way back; and every
 * version, newest first. */
import { get, modelPath, post } from './api.js';
import {
    announce,
    button,
    confirmed,
    failed,
    fill,
    h,
    name,
    noModel,
    problem,
    put,
    table,
    toast,
} from './dom.js';
import { clockOf, dayOf, moment } from './format.js';
import { may, refreshModel } from './state.js';
import { gateLine } from './verdict.js';

const PAGE = 25;
const ACTS = {
    label: 'taught as',
    reject: 'not',
    withdraw: 'a vote taken back',
    delete: 'an example erased',
    label_add: 'new label',
    label_rename: 'renamed',
    label_retire: 'retired',
    label_restore: 'restored',
    label_set: 'threshold or payload of',
    label_merge: 'merged',
    label_split: 'split',
    erase: 'votes erased',
    erased: 'erased since',
    swap: 'another encoder',
};

const canGo = (e) => !e.live && ['base', 'live', 'held'].includes(e.state);

function encoderCard(e, rollback) {
    return h(
        'li',
        { class: `encoder ${e.live ? 'is-live' : ''}` },
        h('div.encoder-no.num', { 'aria-hidden': 'true' }, e.encoder),
        h(
            'div.grow',
            h(
                'h3',
                `Encoder ${e.encoder} `,
                e.live
                    ? h('span.chip.good', 'live')
                    : e.state !== 'refused' && h('span.chip', e.state),
            ),
            h('p', e.parent === null ? 'as it came, before any run' : [gateLine(e.gate)]),
            h(
                'p.meta',
                e.parent === null
                    ? ''
                    : `${e.origin}${e.run ? `, run ${e.run}` : ''}, from encoder ${e.parent} · `,
                moment(e.created),
                ' · ',
                h('span.mono', e.sha256.slice(0, 12)),
            ),
        ),
        may('admin') && canGo(e)
            ? h(
                  'button',
                  { type: 'button', onclick: () => rollback(e), 'data-key': `${e.encoder}` },
                  'Go to this one',
              )
            : null,
    );
}

function versionRow(v) {
    const what =
        v.op !== null
            ? (ACTS[v.op] ?? v.op)
            : v.reason === 'created'
              ? 'the model was made'
              : 'the empty model';
    const run =
        v.op === 'swap'
            ? h('span.muted', ` (${v.reason ?? ''}${v.run ? `, run ${v.run}` : ''})`)
            : null;
    const live = v.state === 'live';
    return {
        class: live ? 'is-live' : null,
        cells: [
            [h('span.mono', v.version), live ? [' ', h('span.chip.good', 'live')] : null],
            [what, ' ', v.label === null ? null : name(v.label), run],
            v.annotator ? h('bdi', v.annotator) : h('span.muted', '–'),
            h('time', { datetime: v.created }, `${dayOf(v.created)} ${clockOf(v.created)}`),
        ],
    };
}

function show(main, view) {
    const { model, signal } = view;
    if (!model) {
        put(main, noModel());
        return;
    }
    const encoders = h('ol.encoders'),
        history = h('div'),
        wrong = h('div');
    const more = button('Earlier ones', () => load(cursor));
    let rows = [],
        cursor = null,
        turn = 0;

    async function load(next = null) {
        const mine = ++turn;
        try {
            const path = modelPath(model.name, `/versions?limit=${PAGE}`);
            const page = await get(next ? `${path}&cursor=${encodeURIComponent(next)}` : path, {
                signal,
            });
            if (mine !== turn) return;
            cursor = page.next_cursor;
            more.hidden = cursor === null;
            if (next === null) {
                fill(
                    encoders,
                    [...page.encoders]
                        .sort((a, b) => b.encoder - a.encoder)
                        .map((e) => encoderCard(e, rollback)),
                );
                rows = [];
            }
            rows.push(...page.versions.map(versionRow));
            fill(
                history,
                table(
                    'Versions, newest first',
                    ['Version', 'What made it', 'Annotator', '#When'],
                    rows,
                ),
            );
            fill(wrong);
        } catch (error) {
            if (error.name !== 'AbortError') fill(wrong, problem(error));
        }
    }

    async function rollback(e) {
        const yes = await confirmed(
            `Go to encoder ${e.encoder}?`,
            [
                h(
                    'p',
                    'Answers of ',
                    h('b', model.name),
                    ' will come from this encoder. What was taught since stays: the head is ',
                    'rebuilt from all examples.',
                ),
                h('p.meta', gateLine(e.gate)),
            ],
            `Go to encoder ${e.encoder}`,
        );
        if (!yes) return;
        try {
            const done = await post(modelPath(model.name, '/rollback'), { encoder: e.encoder });
            toast(
                done.live
                    ? `Encoder ${e.encoder} is live: version ${done.version}.`
                    : `Encoder ${e.encoder} is being put in place.`,
            );
            announce('Rolled back');
            await refreshModel();
            await load();
        } catch (error) {
            failed(error);
        }
    }

    put(
        main,
        h(
            'div.head',
            h('h1', 'Versions'),
            h('p.meta', 'encoder . event: every answer names the version that gave it'),
        ),
        wrong,
        h('section.card', h('h2', 'Encoders'), encoders),
        h('section.card', h('h2', 'What happened'), history, h('div.row.center', more)),
    );
    more.hidden = true;
    let timer = 0;
    view.on('swap', (e) => {
        if (e.model !== model.name) return;
        clearTimeout(timer);
        timer = setTimeout(() => {
            if (!signal.aborted && rows.length <= PAGE) load();
        }, 300);
    });
    load();
}

export const versions = { id: 'versions', title: 'Versions', key: 'v', role: 'predict', show };
