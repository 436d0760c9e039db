"""From the rows of the ACD to records in the ledger."""
