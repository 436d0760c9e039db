"""callstatsd: delivers the statistics of finished ACD calls from Postgres to Salesforce."""

from importlib.metadata import version

__version__ = version("callstatsd")
