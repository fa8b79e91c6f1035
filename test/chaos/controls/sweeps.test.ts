import { provesControls } from './control.ts'

provesControls({
  services: ['ingest', 'router', 'dispatcher'],
  postgres: 'shared',
  controls: [
    {
      name: 'no route sweep',
      broken: { router: { without: 'event sweep' } },
      async scenario({ sender, start }) {
        await Promise.all([start('router'), start('dispatcher')])
        const ingest = await start('ingest', { point: 'ingest.after_commit', signal: 'SIGKILL' })
        await sender.send()
        await ingest.exited()
        await start('ingest')
        await sender.resend()
      },
      caught: /I6: evt_\w+ is accepted/,
    },
    {
      name: 'no queued sweep',
      broken: { dispatcher: { without: 'queued sweep' } },
      async scenario({ sender, start }) {
        await Promise.all([start('ingest'), start('dispatcher')])
        const router = await start('router', { point: 'router.after_route', signal: 'SIGKILL' })
        await sender.send()
        await router.exited()
        await start('router')
      },
      caught: /I6: dlv_\w+ is queued/,
    },
    {
      name: 'no lease sweep',
      broken: { dispatcher: { without: 'lease sweep' } },
      async scenario({ sender, start }) {
        await Promise.all([start('ingest'), start('router')])
        const dispatcher = await start('dispatcher', { point: 'dispatcher.after_lease', signal: 'SIGKILL' })
        await sender.send()
        await dispatcher.exited()
        await start('dispatcher')
      },
      caught: /I6: dlv_\w+ is leased/,
    },
  ],
})
