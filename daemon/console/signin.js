/* signin.js -- asks for a key where the daemon wants one. It is kept by this tab alone. */
import { get, setKey } from './api.js';
import { announce, field, fill, h } from './dom.js';

/** Shows the field in `main`; resolves when a key was taken. */
export function signIn(main) {
    return new Promise((resolve) => {
        const input = h('input', {
            type: 'password',
            autocomplete: 'current-password',
            required: true,
            spellcheck: 'false',
        });
        const wrong = h('p.notice.bad', { role: 'alert', hidden: true });
        const button = h('button.primary', 'Sign in');
        const form = h(
            'form.card.signin',
            h('h1', 'Sign in'),
            h(
                'p.muted',
                'This daemon answers to keys. Yours begins where an administrator made it: ',
                h('code', 'learnctl keys'),
                '.',
            ),
            field('Key', input, 'Forgotten when this tab is closed.'),
            wrong,
            h('div.row.end', button),
        );
        form.addEventListener('submit', async (event) => {
            event.preventDefault();
            const typed = input.value.trim();
            if (!/^[\x21-\x7e]+$/.test(typed)) {
                say('That is no key: keys are letters and digits without spaces.');
                return;
            }
            button.disabled = true;
            wrong.hidden = true;
            setKey(typed);
            try {
                await get('/v1/info', { quiet: true });
                announce('Signed in');
                resolve();
            } catch (error) {
                setKey('');
                button.disabled = false;
                say(
                    error.status === 401
                        ? 'This key is not known here, has run out or was revoked.'
                        : error.words,
                );
            }
        });
        const say = (text) => {
            wrong.textContent = text;
            wrong.hidden = false;
            input.select();
            input.focus();
        };
        main.dataset.view = 'signin';
        fill(main, form);
        input.focus();
    });
}
