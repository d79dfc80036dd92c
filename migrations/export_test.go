package migrations

import "context"

// LockKey lets the tests hold the lock.
const LockKey = lockKey

// UpTo applies the files up to a version, as the release that ended with it did.
func UpTo(last uint) func(ctx context.Context, dsn string) error {
	return func(ctx context.Context, dsn string) error {
		return change(ctx, dsn, func(s State) error {
			for _, version := range s.Pending {
				if version > last {
					return nil
				}
				if err := apply(ctx, dsn, s.Version, version); err != nil {
					return err
				}
				s.Version = version
			}
			return nil
		})
	}
}
