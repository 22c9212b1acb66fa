/* verdict.js -- what the gate said of a candidate, in words and numbers. */
import { h, name, table } from './dom.js';
import { count, figure, percent } from './format.js';

const REASONS = {
    too_few: 'Too few texts were kept out to show anything.',
    accuracy: 'It is not shown that its accuracy is not lower.',
    recall: 'Some labels lose recall.',
    calibration: 'Its scores mean less what they say (calibration).',
    novelty: 'It finds texts of unknown kinds less well (novelty).',
    latency: 'It is slower.',
};

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
    const rows = [
        ['accuracy', percent(v.accuracy_old), percent(v.accuracy_new)],
        ['Brier score', figure(v.brier_old), figure(v.brier_new)],
        ['calibration error', percent(v.ece_old), percent(v.ece_new)],
        v.auroc_new !== null && ['AUROC of novelty', percent(v.auroc_old), percent(v.auroc_new)],
    ];
    return [
        v.reasons.map((r) => h('p.notice', { dir: 'auto' }, REASONS[r] ?? r)),
        table('Old and new', ['On texts kept out', '#old', '#new'], rows.filter(Boolean)),
        h(
            'p.meta',
            `${count(v.won)} texts won, ${count(v.lost)} lost of ${count(v.items)}; `,
            `accuracy at worst ${percent(v.lower)} (allowed: −${percent(v.margin)})`,
            v.latency_ratio === null ? '.' : `; latency × ${figure(v.latency_ratio, 2)}.`,
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
