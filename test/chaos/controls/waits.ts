/** Past the ten seconds for which a queued delivery waits for its job; no lease ends by it. */
export const queueWaitMs = 12_000
/** Past a lease of 30 s. */
export const leaseMs = 40_000
/** Nobody retries within a test by himself. */
export const farRetry = '2m'
export const farRetryMs = 150_000
