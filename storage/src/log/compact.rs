//! Log compaction: of every key only the latest record stays.
