"""What the ACD's tables must be like, and SQL fitted to what they are. Pure."""

from collections.abc import Mapping, Sequence

from daemon.lines import BIGINT_MAX, NON_NUMERIC_ID

_ID, _NUMBER, _FLAG, _TIME, _TEXT = "id", "number", "flag", "time", "text"

Tables = Mapping[str, Mapping[str, str]]
"""Tables with their columns, and what each column is used as."""

TABLES: Tables = {
    "StatisticsPartA": {
        "ID": _ID,
        "ClientsID": _ID,
        "ServiceNumbersID": _ID,
        "bOutbound": _FLAG,
        "ANumber": _TEXT,
        "BNumber": _TEXT,
        "dtCallStart": _TIME,
        "dtCallEnd": _TIME,
        "CauseCodesID": _NUMBER,
        "UserData": _TEXT,
    },
    "AcdStatisticsPartB": {
        "ID": _ID,
        "StatisticsPartAID": _ID,
        "AcdGroupsID": _ID,
        "AcdAgentGroupsID": _ID,
        "AcdConfigurationGroupsID": _ID,
        "dtGroupStart": _TIME,
    },
    "StatisticsPartB": {
        "ID": _ID,
        "StatisticsPartAID": _ID,
        "AcdStatisticsPartBID": _ID,
        "UsersID": _ID,
        "dtCallStart": _TIME,
        "dtCallAlert": _TIME,
        "dtCallConnect": _TIME,
        "dtCallEnd": _TIME,
        "CONNRES": _NUMBER,
        "CauseCodesID": _NUMBER,
    },
    "AcdStatisticsTransactionCodes": {
        "ID": _ID,
        "StatisticsPartAID": _ID,
        "AcdStatisticsPartBID": _ID,
        "StatisticsPartBID": _ID,
        "TransactionCodesID": _ID,
        "UsersID": _ID,
        "dtCreated": _TIME,
        "UserData": _TEXT,
    },
    "ServiceNumbers": {"ID": _ID, "Name": _TEXT, "Name2": _TEXT},
    "Users": {"ID": _ID, "UID": _TEXT},
    "AcdGroups": {"ID": _ID, "Name": _TEXT},
    "TransactionCodes": {"ID": _ID, "ExportKey": _TEXT},
}
"""Columns that the statements of calls read."""

ACD_EVENTS: Mapping[str, str] = {
    "ID": _ID,
    "ClientsID": _ID,
    "AcdEventTypesID": _ID,
    "AcdGroupsID": _ID,
    "AcdConfigurationGroupsID": _ID,
    "AcdAgentGroupsID": _ID,
    "UsersID": _ID,
    "CreatingUsersID": _ID,
    "StatisticsPartAID": _ID,
    "Sender": _TEXT,
    "Receiver": _TEXT,
    "Subject": _TEXT,
    "EventData": _TEXT,
    "UserData": _TEXT,
    "SalesforceQueryResult": _NUMBER,
    "dtCreated": _TIME,
}
CALLBACK_TABLES: Tables = {
    "AcdEvents": ACD_EVENTS,
    "StatisticsPartA": TABLES["StatisticsPartA"],
    "ServiceNumbers": TABLES["ServiceNumbers"],
    "Users": {**TABLES["Users"], "NickName": _TEXT},
    "AcdGroups": {**TABLES["AcdGroups"], "ForeignSystemID": _TEXT},
}
"""Columns that the statements of callback requests read."""
OPTIONAL = {
    ("AcdEvents", "ClientsID"),
    ("AcdEvents", "AcdConfigurationGroupsID"),
    ("AcdEvents", "AcdAgentGroupsID"),
    ("AcdEvents", "CreatingUsersID"),
    ("AcdEvents", "StatisticsPartAID"),
    ("AcdEvents", "SalesforceQueryResult"),
    ("Users", "NickName"),
    ("AcdGroups", "ForeignSystemID"),
}
"""Columns that may be missing, and count as NULL then."""

REFERENCE_TABLES = (*TABLES, "AcdEvents")
"""Tables that `migrate --reference-schema` creates."""

_ID_TYPES = {"smallint", "integer", "bigint", "numeric", "real", "double precision"}
_TIME_TYPES = {"timestamp with time zone", "timestamp without time zone"}

SHORT_TEXT = 100
"""Octets up to which a UserData is read as it is."""
LONG_TEXT = 65_536
"""Octets from which on a UserData is none: to trim it would take the server too long."""
BLANKS = (
    *range(0x09, 0x0E), *range(0x1C, 0x21), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
    0x2028, 0x2029, 0x202F, 0x205F, 0x3000,
)  # fmt: skip
"""All characters that `str.strip` removes; below 128 they are the same in every encoding."""

WANTED_INDEXES = (
    ("StatisticsPartA", "ID"),
    ("StatisticsPartA", "dtCallEnd"),
    ("StatisticsPartA", "dtCallStart"),
    ("AcdStatisticsPartB", "StatisticsPartAID"),
    ("StatisticsPartB", "StatisticsPartAID"),
    ("AcdStatisticsTransactionCodes", "StatisticsPartAID"),
    ("AcdStatisticsTransactionCodes", "dtCreated"),
)
WANTED_CALLBACK_INDEXES = (("AcdEvents", "ID"), ("AcdEvents", "dtCreated"))


def missing_indexes(
    indexed: Mapping[str, set[str]], wanted: Sequence[tuple[str, str]] = WANTED_INDEXES
) -> list[str]:
    """Return a CREATE INDEX for each index that polls would want and do not have."""
    return [
        f"CREATE INDEX CONCURRENTLY ON {table} ({column})"
        for table, column in wanted
        if column.lower() not in indexed.get(table.lower(), set())
    ]


def absent_columns(columns: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Name the columns that may be missing and are."""
    return [
        f"{table}.{column}"
        for table, column in sorted(OPTIONAL)
        if column.lower() not in columns.get(table.lower(), ())
    ]


def schema_faults(
    columns: Mapping[str, Mapping[str, str]], schemas: Sequence[str], tables: Tables = TABLES
) -> tuple[str, ...]:
    """Name each table or column that is missing or of a type that cannot be used."""
    faults = []
    for table, expected in tables.items():
        found = columns.get(table.lower())
        if found is None:
            faults.append(
                f"table {table} is not in the source's {', '.join(schemas)}: set "
                "CALLSTATSD_SOURCE_SCHEMAS, grant USAGE on the schema, or make a view of that name"
            )
            continue
        for column, kind in expected.items():
            type_name = found.get(column.lower())
            if type_name is None and (table, column) in OPTIONAL:
                continue
            if type_name is None:
                faults.append(f"column {table}.{column} is missing: add it, or make a view with it")
            elif kind == _TIME and type_name not in _TIME_TYPES:
                faults.append(
                    f"column {table}.{column} is {type_name}: it must be timestamptz or timestamp"
                )
    return tuple(faults)


def relation(table: str, types: Mapping[str, str], kinds: Mapping[str, str]) -> str:
    """Return the FROM item for a table: its columns, ids as numbers, what is missing as NULL.

    An id that a view has as text is cast where it is a number; where it is none it becomes a
    stable number below `NON_NUMERIC_ID`, so that the line still has a key and ends as `invalid`.
    """
    columns = []
    for column, kind in kinds.items():
        if column.lower() not in types:
            columns.append(f"NULL::{'text' if kind == _TEXT else 'bigint'} AS {column}")
        elif kind == _ID and types[column.lower()] not in _ID_TYPES:
            columns.append(
                f"CASE WHEN {column} IS NULL THEN NULL"
                f" WHEN {column}::text ~ '^\\s*-?\\d{{1,18}}\\s*$'"
                f" OR {column}::text ~ '^\\d{{19}}$'"
                f" AND {column}::text COLLATE \"C\" <= '{BIGINT_MAX}'"
                f" THEN {column}::text::bigint"
                f" ELSE {NON_NUMERIC_ID} - 1 - (hashtextextended({column}::text, 0) & {2**62 - 1})"
                f" END AS {column}"
            )
        else:
            columns.append(column)
    return f"(SELECT {', '.join(columns)} FROM {table})"


def id_text(text: str, *, unicode: bool) -> str:
    """Return an expression for what may be a Salesforce id in a text: trimmed, short, or NULL.

    The beginning of a long text mostly says that it is none, without the rest being read.
    """
    blanks = " || ".join(f"chr({code})" for code in BLANKS if unicode or code < 128)
    return (
        f"CASE WHEN octet_length({text}) <= {SHORT_TEXT} THEN {text}"
        f" WHEN octet_length({text}) <= {LONG_TEXT}"
        f" AND length(btrim(left({text}, {2 * SHORT_TEXT}), {blanks})) <= {SHORT_TEXT}"
        f" AND octet_length(btrim({text}, {blanks})) <= {SHORT_TEXT}"
        f" THEN btrim({text}, {blanks}) END"
    )
