import { probePort } from '@tenterhook/cli/local/ports'

/**
 * Below the ports that systems hand out for outgoing connections (Linux from 32768, macOS from 49152): a server that a
 * test stops for a while must find its port free when it comes back.
 */
const least = 10_000
const most = 32_000
const triesMax = 50

/** A port of 127.0.0.1 that nobody listens on, and that nobody is given by the system meanwhile. */
export async function keepablePort(random: () => number = Math.random): Promise<number> {
  for (let tries = 0; tries < triesMax; tries++) {
    const port = least + Math.floor(random() * (most - least))
    if ((await probePort(port)) === 'free') return port
  }
  throw new Error(`${triesMax} ports between ${least} and ${most} are all taken`)
}
