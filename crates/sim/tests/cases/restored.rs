//! A server that was put back from a backup: another life, and channels that go on elsewhere.
