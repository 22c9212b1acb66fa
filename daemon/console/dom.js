/* dom.js -- making and filling elements, telling people things, asking them.
 *
 * Everything that is shown goes through textContent: texts, labels and names come from anybody and
 * are shown as they are, never read as markup. What holds such texts has dir="auto", so that
 * right-to-left writing stands as it should and does not turn over what is beside it.
 */

/**
 * An element: h('p.meta', {hidden: true, onclick: run}, 'text', other, null); attributes may be
 * left out. on* are listeners; true and false set an attribute and leave it out.
 * @param {string} what tag and classes
 * @param {...(object|Node|string|number|null|undefined|false|Array)} rest
 */
export function h(what, ...rest) {
    const [tag, ...classes] = what.split('.');
    const node = document.createElement(tag);
    if (classes.length > 0) node.className = classes.join(' ');
    if (Object.getPrototypeOf(rest[0] ?? []) === Object.prototype) {
        for (const [key, value] of Object.entries(rest.shift())) {
            if (value === null || value === undefined || value === false) continue;
            if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
            else if (key === 'class') node.className = `${node.className} ${value}`.trim();
            else node.setAttribute(key, value === true ? '' : value);
        }
    }
    return put(node, rest);
}

/** Appends children; strings become text. */
export function put(node, ...children) {
    for (const child of children.flat(Infinity)) {
        if (child === null || child === undefined || child === false) continue;
        node.append(child instanceof Node ? child : String(child));
    }
    return node;
}

/** Replaces what is in node. What had the focus, by its data-key, has it again. */
export function fill(node, ...children) {
    const held = node.contains(document.activeElement) && document.activeElement.dataset.key;
    node.replaceChildren();
    put(node, children);
    if (held) node.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus();
    return node;
}

const RTL = /^\P{L}*[\p{sc=Hebr}\p{sc=Arab}\p{sc=Syrc}\p{sc=Thaa}\p{sc=Nkoo}]/u;
/** By the first letter, as dir="auto" does; that takes Chromium a minute for a megabyte. */
export const direction = (text) => (RTL.test(text.slice(0, 500)) ? 'rtl' : 'ltr');

const SHOWN_MAX = 1200; /* characters of one text, until somebody asks for more */

/** A text of unknown origin, cut where it is very long, with a button for the rest. */
export function said(text, props = {}) {
    const node = h('span', { ...props, dir: 'auto', class: `said ${props.class ?? ''}` });
    const long = text.length > SHOWN_MAX;
    node.textContent = long ? text.slice(0, SHOWN_MAX) + ' …' : text;
    if (!long) return node;
    const more = h(
        'button',
        { type: 'button', class: 'quiet small' },
        `Show all ${text.length.toLocaleString('en')} characters`,
    );
    more.addEventListener('click', () => {
        node.dir = direction(text);
        node.textContent = text;
        node.tabIndex = -1;
        node.focus();
        more.remove();
    });
    return h('span.said-long', node, ' ', more);
}

/** A label's name: isolated, so that its direction is its own; it may break behind a mark. */
export function name(text, props = {}) {
    const parts = text.split(/(?<=[_./-])/);
    return h(
        'bdi.label-name',
        props,
        parts.map((part, i) => [i > 0 ? h('wbr') : null, part]),
    );
}

/** A button that is not a form's. props.class: how it looks. */
export const button = (says, run, props = {}) =>
    h('button', { type: 'button', onclick: run, ...props }, says);

/** Labels' names with commas between. */
export const names = (list) => list.map((text, i) => [i > 0 ? ', ' : '', name(text)]);

export const kbd = (key) => h('kbd', { 'aria-hidden': 'true' }, key);

/** Says it to a screen reader. */
export function announce(text, urgent = false) {
    const region = document.getElementById(urgent ? 'urgent' : 'polite');
    region.textContent = '';
    requestAnimationFrame(() => {
        region.textContent = text;
    });
}

/**
 * A short message in the corner, and to a screen reader.
 * @param {string} text
 * @param {{kind?: 'good'|'bad', action?: [string, Function]}} [more]
 */
export function toast(text, { kind = 'good', action } = {}) {
    const node = h('div', { class: `toast ${kind}` }, h('span', { dir: 'auto' }, text));
    const close = () => node.remove();
    if (action) {
        node.append(
            h(
                'button',
                {
                    type: 'button',
                    class: 'quiet',
                    onclick: () => {
                        close();
                        action[1]();
                    },
                },
                action[0],
            ),
        );
    }
    node.append(
        h('button', { type: 'button', class: 'icon', 'aria-label': 'Close', onclick: close }, '×'),
    );
    const toasts = document.getElementById('toasts');
    toasts.append(node);
    while (toasts.children.length > 4) toasts.firstChild.remove();
    setTimeout(close, kind === 'bad' ? 12000 : 5000);
    announce(text, kind === 'bad');
}

/** What went wrong, in words, with the field. */
export function failed(error) {
    if (error.name === 'AbortError' || error.status === 401) return; /* left, or asked to sign in */
    toast(error.words ?? String(error.message), { kind: 'bad' });
}

/** An error in the place of what it kept from being shown. */
export const problem = (error) =>
    h('p.notice.bad', { role: 'alert', dir: 'auto' }, error.words ?? String(error.message));

/** A place where nothing is yet, and what to do about it. */
export const empty = (title, ...what) => h('div.empty', h('p.empty-title', title), h('p', ...what));

/**
 * A dialog that takes the focus and gives it back. make(close) returns its content; resolves with
 * what close was given, null for Escape.
 */
export function dialog(title, make, { wide = false } = {}) {
    return new Promise((resolve) => {
        const id = `d${Math.random().toString(36).slice(2)}`;
        const node = h('dialog', { 'aria-labelledby': id, class: wide ? 'wide' : null });
        const before = document.activeElement;
        let answer = null;
        const close = (value) => {
            answer = value ?? null;
            node.close();
        };
        put(node, h('h2', { id }, title), make(close));
        node.addEventListener('close', () => {
            node.remove();
            if (before?.isConnected) before.focus();
            resolve(answer);
        });
        node.addEventListener('click', (event) => {
            if (event.target === node) close(null);
        });
        document.body.append(node);
        node.showModal();
        node.querySelector('[autofocus]')?.focus();
    });
}

/** Asks before something that matters. The focus is on "no". */
export function confirmed(title, body, yes, { danger = false } = {}) {
    return dialog(title, (close) => [
        h('div.dialog-text', body),
        h(
            'div.row.end',
            h('button', { type: 'button', autofocus: true, onclick: () => close(false) }, 'Cancel'),
            h(
                'button',
                {
                    type: 'button',
                    class: danger ? 'danger' : 'primary',
                    onclick: () => close(true),
                },
                yes,
            ),
        ),
    ]);
}

/**
 * Asks before something that undoes, does it and says so, or says what went wrong.
 * @returns {Promise<boolean>} whether it was done
 */
export async function undone(title, body, yes, act, says) {
    if (!(await confirmed(title, body, yes, { danger: true }))) return false;
    try {
        await act();
        toast(says);
        return true;
    } catch (error) {
        failed(error);
        return false;
    }
}

/** An input of a line, for a name. */
export const textInput = (props) => {
    const plain = { type: 'text', maxlength: 128, autocomplete: 'off', spellcheck: 'false' };
    return h('input', { ...plain, dir: 'auto', ...props });
};

let ids = 0;
/** A labelled control: field('Name', input, 'what it is for'). */
export function field(label, control, hint) {
    control.id ||= `f${++ids}`;
    const note = hint ? h('p.hint', { id: `${control.id}-hint` }, hint) : null;
    if (note) control.setAttribute('aria-describedby', note.id);
    return h('div.field', h('label', { for: control.id }, label), control, note);
}

export const options = (values, chosen) =>
    values.map(([value, text]) =>
        h('option', { value, selected: value === chosen }, text ?? value),
    );

/**
 * A table that scrolls in itself. A head that begins with '#' is of figures; '' has none; it may be
 * a <th> too. A row is its cells, the first of them its head, or {class, cells}.
 */
export function table(says, heads, rows) {
    const top = heads.map((head) => {
        if (head instanceof Node) return head;
        const num = head.startsWith('#') ? 'num' : null;
        return head === '' ? h('td') : h('th', { scope: 'col', class: num }, head.replace('#', ''));
    });
    const cell = (content, i) =>
        i === 0
            ? h('th', { scope: 'row' }, content)
            : h('td', { class: top[i].className || null }, content);
    const row = (r) => h('tr', { class: r.class }, (r.cells ?? r).map(cell));
    return h(
        'div.scroll',
        { tabindex: '0', role: 'region', 'aria-label': says },
        h('table.rows', h('thead', h('tr', top)), h('tbody', rows.map(row))),
    );
}

export const noModel = () => empty('There is no model', 'Make one in the list of models above.');
