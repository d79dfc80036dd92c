package migrations

// LockKey lets the tests hold the lock.
const LockKey = lockKey
