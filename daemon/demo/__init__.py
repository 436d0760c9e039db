"""The demo: embedded Postgres, sample calls and a Salesforce stand-in; the tests use them, too."""
