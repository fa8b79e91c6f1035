import { countSecretsByKey, reEncryptSecrets } from '@tenterhook/store/re-encrypt'
import { Command } from 'commander'
import { readEncryptionKeys, readState, rotateEncryptionKeys } from '../local/home.ts'
import { CommandError } from './command-error.ts'
import { withStore } from './database.ts'
import type { Surroundings } from './surroundings.ts'

export function keysCommand(surroundings: Surroundings): Command {
  const { home, env, out, program } = surroundings
  const rotate = new Command('rotate')
    .description('put a new key before those that `up` keeps; only while nothing runs')
    .action(async () => {
      if (env['TENTERHOOK_ENCRYPTION_KEYS'])
        throw new CommandError(
          'bad_argument',
          'TENTERHOOK_ENCRYPTION_KEYS is set: put a new key first in it, under a new id',
        )
      // What runs doesn't know the new key, and could not open what is sealed with it.
      if (await readState(home)) throw new CommandError('bad_argument', `Tenterhook runs in ${home}: stop it first`)
      const kept = await readEncryptionKeys(home)
      if (kept === undefined)
        throw new CommandError('keys_unknown', `there are no keys in ${home} yet: \`${program} up\` makes one`)
      out(`new secrets will be sealed with ${await rotateEncryptionKeys(home, kept)}`)
      out(`start Tenterhook, then seal the old ones with it too: ${program} keys re-encrypt`)
    })
  const reEncrypt = new Command('re-encrypt')
    .description('seal every stored secret with the first key; each service must have been started with it before')
    .action(async () => {
      await withStore(surroundings, async ({ store, keys }) => {
        const moved = await reEncryptSecrets(store.durable, keys)
        const first = keys[0]?.id ?? ''
        const all = (await countSecretsByKey(store.durable)).get(first) ?? 0
        out(`${all} secrets are sealed with ${first}; ${moved} of them were not before`)
        if (keys.length > 1)
          out(
            `no other key is needed any more: ${keys
              .slice(1)
              .map(({ id }) => id)
              .join(', ')} can go`,
          )
      })
    })
  return new Command('keys')
    .description('the keys that secrets are encrypted under')
    .addCommand(rotate)
    .addCommand(reEncrypt)
}
