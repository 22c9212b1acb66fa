/* models.js -- a new model. */
import { post } from './api.js';
import { dialog, field, h, options } from './dom.js';

/** Asks for its name and kind, makes it. -> its name, or null */
export function newModel() {
    return dialog('New model', (close) => {
        const name = h('input', {
            type: 'text',
            required: true,
            maxlength: 128,
            autofocus: true,
            pattern: '[A-Za-z0-9][A-Za-z0-9._\\-]*',
            autocomplete: 'off',
            spellcheck: 'false',
        });
        const kind = h(
            'select',
            options([
                ['single', 'one label a text'],
                ['multi', 'any number of labels a text'],
            ]),
        );
        const wrong = h('p.notice.bad', { role: 'alert', hidden: true, dir: 'auto' });
        const form = h(
            'form',
            field('Name', name, 'Letters, digits, dots, dashes.'),
            field('Kind', kind),
            wrong,
            h(
                'div.row.end',
                h('button', { type: 'button', onclick: () => close(null) }, 'Cancel'),
                h('button.primary', 'Create'),
            ),
        );
        form.addEventListener('submit', async (event) => {
            event.preventDefault();
            try {
                await post('/v1/models', { name: name.value, kind: kind.value });
                close(name.value);
            } catch (error) {
                wrong.textContent = error.words ?? String(error);
                wrong.hidden = false;
            }
        });
        return form;
    });
}
