import { createHash } from 'node:crypto'

/** The console's few pages of its own: plain HTML, no script, readable without styles. */
const style = `
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { max-width: 34rem; margin: 12vh auto; padding: 0 1rem }
h1 { font-size: 1.4rem }
label { display: block; font-weight: 600 }
input, button { font: inherit; padding: .5rem .75rem; border: 1px solid #767676; border-radius: .3rem }
input { box-sizing: border-box; width: 100%; margin: .25rem 0 1rem }
:focus-visible { outline: 3px solid #2f6fde; outline-offset: 2px }
.error { border-left: .3rem solid #c62828; padding: .25rem .75rem }
code { font-family: ui-monospace, monospace }
`

/** For these pages: their one style sheet, an empty icon, forms that go to us, and nothing else. */
export const pagePolicy = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`

function page(title: string, main: string, heading = title): string {
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${escapeHtml(title)}</title><link rel="icon" href="data:,"><style>${style}</style></head>
<body><main>
<h1>${escapeHtml(heading)}</h1>
${main}
</main></body>
</html>
`
}

/** `to` is where to go on; `error` is said above the form and tied to the field. */
export function signInPage({ to, error }: { to: string; error?: string }): string {
  const heading = 'Sign in to Tenterhook'
  const said = error === undefined ? '' : `<p id="error" class="error" role="alert">${escapeHtml(error)}</p>`
  return page(
    `${error === undefined ? '' : 'Error: '}${heading}`,
    `${said}
<form method="post" action="/sign-in">
<label for="token">Admin token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus aria-describedby="${error === undefined ? 'hint' : 'error hint'}"${error === undefined ? '' : ' aria-invalid="true"'}>
<input type="hidden" name="to" value="${escapeHtml(to)}">
<button>Sign in</button>
</form>
<p id="hint">The token was printed at the first start. <code>tenterhook token reset</code> makes a new one and ends every session.</p>`,
    heading,
  )
}

export function homePage(): string {
  const lists = [
    'events',
    'deliveries',
    'deliveries?state=dead',
    'rejections',
    'sources',
    'destinations',
    'connections',
  ]
  return page(
    'Tenterhook',
    `<ul>
<li><a href="/queues">Queues</a></li>
${lists.map((list) => `<li><a href="/v1/${list}"><code>/v1/${list}</code></a></li>`).join('\n')}
</ul>
<p>Programs use the same addresses with <code>Authorization: Bearer &lt;admin token&gt;</code>.</p>
<form method="post" action="/sign-out"><button>Sign out</button></form>`,
  )
}

export function errorPage(title: string, detail: string): string {
  return page(title, `<p role="alert">${escapeHtml(detail)}</p>\n<p><a href="/">Back to the console</a></p>`)
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)
}
