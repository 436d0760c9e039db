"""What the demo and the tests run against: Postgres, a day of calls and a Salesforce stand-in."""
