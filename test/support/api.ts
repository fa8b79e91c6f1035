import { request } from 'undici'
import type { Stack } from './stack.ts'

export type ApiAnswer = {
  status: number
  headers: Record<string, string | string[] | undefined>
  json: Record<string, unknown>
}

/** Asks the console of a stack, as its operator. `path` is what follows `/v1`. */
export async function api(
  stack: Stack,
  method: 'GET' | 'POST',
  path: string,
  { body, key }: { body?: unknown; key?: string } = {},
): Promise<ApiAnswer> {
  const answer = await request(`${stack.apiUrl}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${stack.adminToken}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...(key !== undefined && { 'idempotency-key': key }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  return {
    status: answer.statusCode,
    headers: answer.headers,
    json: (await answer.body.json()) as Record<string, unknown>,
  }
}
