/* typeahead.js -- a field that finds a label by some of its letters, or names a new one
 * (the combobox pattern of the ARIA authoring practices).
 */
import { h } from './dom.js';

const SHOWN = 8;
let ids = 0;

/** Labels that hold the typed letters: first those that begin with them, then words, then all. */
export function matches(labels, typed, most = SHOWN) {
    const want = typed.trim().toLocaleLowerCase();
    const scored = [];
    for (const label of labels) {
        const have = label.toLocaleLowerCase();
        const at = have.indexOf(want);
        if (at < 0) continue;
        const word = at > 0 && /[\s_./-]/.test(have[at - 1]);
        scored.push([at === 0 ? (have === want ? 0 : 1) : word ? 2 : 3, label]);
    }
    return scored
        .sort((a, b) => a[0] - b[0])
        .slice(0, most)
        .map(([, label]) => label);
}

/**
 * @param {{label: string, hint?: string, names: () => string[], create?: boolean,
 *          choose: (label: string, isNew: boolean) => void}} how
 * @returns {{node: HTMLElement, input: HTMLInputElement}}
 */
export function typeahead({ label, hint, names, create = true, choose }) {
    const id = `ta${++ids}`;
    const input = h('input', {
        id,
        type: 'text',
        role: 'combobox',
        'aria-expanded': 'false',
        'aria-controls': `${id}-list`,
        'aria-autocomplete': 'list',
        autocomplete: 'off',
        spellcheck: 'false',
        maxlength: 128,
        placeholder: hint,
    });
    const list = h('ul', {
        id: `${id}-list`,
        role: 'listbox',
        'aria-label': label,
        class: 'choices-list',
        hidden: true,
    });
    let rows = [],
        at = 0;

    function close() {
        list.hidden = true;
        input.setAttribute('aria-expanded', 'false');
        input.removeAttribute('aria-activedescendant');
    }
    function mark(to) {
        at = (to + rows.length) % rows.length;
        [...list.children].forEach((node, i) =>
            node.setAttribute('aria-selected', String(i === at)),
        );
        list.children[at].scrollIntoView({ block: 'nearest' });
        input.setAttribute('aria-activedescendant', list.children[at].id);
    }
    function take(row) {
        input.value = '';
        close();
        choose(row.label, row.isNew);
    }
    function draw() {
        const typed = input.value.trim();
        const known = names();
        rows = matches(known, typed).map((text) => ({ label: text, isNew: false }));
        if (create && typed && !known.includes(typed)) rows.push({ label: typed, isNew: true });
        list.replaceChildren(
            ...rows.map((row, i) =>
                h(
                    'li',
                    {
                        id: `${id}-${i}`,
                        role: 'option',
                        'aria-selected': 'false',
                        onmousedown: (event) => {
                            event.preventDefault();
                            take(row);
                        },
                    },
                    row.isNew
                        ? ['New label ', h('bdi.new-name', `“${row.label}”`)]
                        : h('bdi', row.label),
                ),
            ),
        );
        list.hidden = rows.length === 0;
        input.setAttribute('aria-expanded', String(rows.length > 0));
        if (rows.length > 0) mark(0);
        else input.removeAttribute('aria-activedescendant');
    }
    input.addEventListener('input', draw);
    input.addEventListener('focus', draw);
    input.addEventListener('blur', close);
    input.addEventListener('keydown', (event) => {
        if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
            event.preventDefault();
            if (list.hidden) draw();
            else mark(at + (event.key === 'ArrowDown' ? 1 : -1));
        } else if (event.key === 'Enter' && !list.hidden && rows.length > 0) {
            event.preventDefault();
            take(rows[at]);
        } else if (event.key === 'Escape') {
            input.value = '';
            close();
        }
    });
    return {
        node: h(
            'div.typeahead',
            h('label', { for: id, class: 'visually-hidden' }, label),
            input,
            list,
        ),
        input,
    };
}
