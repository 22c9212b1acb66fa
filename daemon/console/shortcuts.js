/* shortcuts.js -- keys that act at once, and the list of them.
 *
 * A view binds its keys for as long as it is shown. They do nothing while somebody writes in a
 * field or a dialog is open, and can be turned off as a whole (in the list), for those whose speech
 * or switch software types letters.
 */
import { dialog, h } from './dom.js';

/** @typedef {{keys: string[], says: string, run: Function}} Shortcut */

const groups = new Map(); /* title -> Shortcut[] */
const OFF = 'learnd-keys-off';
let prefix = 0; /* when "g" was typed */

const off = () => {
    try {
        return localStorage.getItem(OFF) === '1';
    } catch {
        return false;
    }
};

/** @param {string} title @param {Shortcut[]} shortcuts @param {AbortSignal} [signal] */
export function bind(title, shortcuts, signal) {
    groups.set(title, shortcuts);
    signal?.addEventListener('abort', () => {
        if (groups.get(title) === shortcuts) groups.delete(title);
    });
}

const writing = (node) =>
    node instanceof HTMLElement &&
    (node.isContentEditable ||
        node.matches('textarea, select, input:not([type=checkbox]):not([type=radio])'));

function find(typed) {
    for (const shortcuts of [...groups.values()].reverse()) {
        const found = shortcuts.find((s) => s.keys.includes(typed));
        if (found) return found;
    }
    return null;
}

export function startShortcuts() {
    document.addEventListener('keydown', (event) => {
        if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
        if (document.querySelector('dialog[open]')) return;
        if (event.key === 'Escape' && writing(event.target)) event.target.blur();
        if (writing(event.target) || off()) return;
        if (event.key === 'Enter' && event.target.closest?.('button, a, summary')) return;
        const typed = prefix && event.timeStamp - prefix < 1500 ? `g ${event.key}` : event.key;
        prefix = 0;
        if (typed === 'g') {
            prefix = event.timeStamp;
            return;
        }
        const found = find(typed);
        if (!found) return;
        event.preventDefault();
        found.run(event.key);
    });
}

const shown = (key) => ({ ' ': 'Space', Enter: '↵', Escape: 'Esc' })[key] ?? key;

export function showShortcuts() {
    const toggle = h('input', { type: 'checkbox', id: 'keys-on', checked: !off() });
    toggle.addEventListener('change', () => {
        try {
            localStorage.setItem(OFF, toggle.checked ? '0' : '1');
        } catch {
            /* this time only */
        }
    });
    return dialog(
        'Keyboard',
        (close) => [
            h(
                'div.keys-list',
                [...groups]
                    .filter(([, list]) => list.length > 0)
                    .map(([title, list]) =>
                        h(
                            'section',
                            h('h3', title),
                            h(
                                'dl',
                                list.map((s) => [
                                    h(
                                        'dt',
                                        s.keys.map((k) =>
                                            k.split(' ').map((part) => h('kbd', shown(part))),
                                        ),
                                    ),
                                    h('dd', s.says),
                                ]),
                            ),
                        ),
                    ),
            ),
            h(
                'div.row.between',
                h('label.check', { for: 'keys-on' }, toggle, ' Keys act without Ctrl or Alt'),
                h('button', { type: 'button', autofocus: true, onclick: () => close() }, 'Close'),
            ),
        ],
        { wide: true },
    );
}
