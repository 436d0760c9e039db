"""HTTP to Salesforce, and tokens."""
