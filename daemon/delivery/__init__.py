"""Delivery: from the ledger to Salesforce, and from its response to an outcome."""
