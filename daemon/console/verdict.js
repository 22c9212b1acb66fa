/* verdict.js -- what the gate said of a candidate, in words and numbers. */
import { h, name, table } from './dom.js';
import { count, figure, percent } from './format.js';

/** In one line, from an encoder's short verdict or a run's whole one. */
export function gateLine(gate) {
    if (!gate || gate.items === null) return h('span.muted', 'not judged');
    const better = gate.accuracy_new > gate.accuracy_old;
    return h(
        'span',
        h(
            'span',
            { class: `chip ${gate.accepted ? 'good' : gate.forced ? 'warn' : 'bad'}` },
            gate.accepted ? 'accepted' : gate.forced ? 'forced' : 'refused',
        ),
        ' ',
        h(
            'span.num',
            percent(gate.accuracy_old),
            ' → ',
            h(better ? 'strong' : 'span', {}, percent(gate.accuracy_new)),
        ),
        h('span.muted', ` of ${count(gate.items)} texts that were kept out`),
    );
}

/** All of it. */
export function gateTable(v) {
    const worst = v.losses
        .slice(0, 12)
        .map((l) => [
            name(l.label ?? '–'),
            count(l.items),
            count(l.lost),
            count(l.won),
            figure(l.p_adjusted),
        ]);
    return [
        v.reasons.length > 0
            ? h(
                  'ul.plain.reasons',
                  v.reasons.map((r) => h('li', { dir: 'auto' }, r)),
              )
            : null,
        table(
            'Old and new',
            ['On texts that were kept out', '#old', '#new'],
            [
                ['accuracy', percent(v.accuracy_old), percent(v.accuracy_new)],
                ['Brier score', figure(v.brier_old), figure(v.brier_new)],
                ['calibration error', percent(v.ece_old), percent(v.ece_new)],
                ['finding the unknown (AUROC)', percent(v.auroc_old), percent(v.auroc_new)],
            ],
        ),
        h(
            'p.meta',
            `${count(v.won)} texts won, ${count(v.lost)} lost of ${count(v.items)}; `,
            `accuracy at worst ${percent(v.lower)} (allowed: −${percent(v.margin)}); `,
            `latency × ${figure(v.latency_ratio, 2)}.`,
        ),
        worst.length > 0
            ? h(
                  'details',
                  h('summary', 'Labels that lost most'),
                  table('Labels that lost most', ['Label', '#Texts', '#Lost', '#Won', '#p'], worst),
              )
            : null,
    ];
}
