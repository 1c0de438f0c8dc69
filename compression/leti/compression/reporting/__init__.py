"""What a compression found, on one page that needs no network: sentences, tables, plots."""
