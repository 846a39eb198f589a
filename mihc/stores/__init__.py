"""Private parts of mihc.store: files, locks, records, transactions, zarr arrays, tables, digests."""
