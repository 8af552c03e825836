"""The functions of pg_catalog that PostgreSQL calls stable, but whose result depends on settings alone.

pg_proc says of a function that is not immutable that it may read anything: the clock, the catalogue, other
tables, the state of the server. This list, made by going through every stable function of PostgreSQL 18,
keeps those that depend on their arguments, on settings (which are in the key, rows 19 and 16 of
hazards/cache.md) and on what only DDL changes (which moves the epoch, row 8). A name stands for all of its
overloads. Whatever is not named here is denied.
"""

from __future__ import annotations

from typing import Final

from heliosproxy.sql.catalog_facts import words

# TimeZone, and the time zone database the server was started with.
_TIME_ZONE = """
    date date_add date_part date_subtract date_trunc extract generate_series make_timestamptz overlaps time
    timestamp timestamptz timetz timezone
    date_cmp_timestamptz date_eq_timestamptz date_ge_timestamptz date_gt_timestamptz date_le_timestamptz
    date_lt_timestamptz date_ne_timestamptz timestamp_cmp_timestamptz timestamp_eq_timestamptz
    timestamp_ge_timestamptz timestamp_gt_timestamptz timestamp_le_timestamptz timestamp_lt_timestamptz
    timestamp_ne_timestamptz timestamptz_cmp_date timestamptz_cmp_timestamp timestamptz_eq_date
    timestamptz_eq_timestamp timestamptz_ge_date timestamptz_ge_timestamp timestamptz_gt_date
    timestamptz_gt_timestamp timestamptz_le_date timestamptz_le_timestamp timestamptz_lt_date
    timestamptz_lt_timestamp timestamptz_ne_date timestamptz_ne_timestamp timestamptz_mi_interval
    timestamptz_pl_interval interval_pl_timestamptz
    jsonb_path_exists_tz jsonb_path_match_tz jsonb_path_query_array_tz jsonb_path_query_first_tz
    jsonb_path_query_tz
"""

# lc_time, lc_numeric, lc_monetary, TimeZone. to_date() and to_timestamp() take missing fields from a fixed
# date, not from the clock.
_FORMATTING = """
    to_char to_date to_number to_timestamp money numeric
"""

# The output functions of their arguments' types: DateStyle, IntervalStyle, TimeZone, extra_float_digits,
# bytea_output, xmlbinary; names of enum labels, composite fields and regclass values change by DDL only.
_TEXT_OUTPUT = """
    anytextcat array_to_string concat concat_ws format quote_literal quote_nullable textanycat
"""
_JSON_OUTPUT = """
    array_to_json json_agg json_agg_strict json_build_array json_build_object json_object_agg
    json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict jsonb_agg jsonb_agg_strict
    jsonb_build_array jsonb_build_object row_to_json to_json to_jsonb
"""

# The input functions of the types of their result: DateStyle, IntervalStyle, TimeZone, lc_monetary,
# xmloption. Clock words inside a JSON document reach timestamp_in, so those that read timestamps out of data
# (json_populate_record, json_to_record and kin, pg_input_is_valid) are not here.

# The database's encoding, and conversions, which only DDL changes.
_ENCODING = """
    convert convert_from convert_to getdatabaseencoding length
"""

# default_text_search_config; configurations and dictionaries, which only DDL changes (a dictionary's file is
# read once per session and is not ours to watch).
_TEXT_SEARCH = """
    get_current_ts_config json_to_tsvector jsonb_to_tsvector phraseto_tsquery plainto_tsquery to_tsquery
    to_tsvector ts_headline ts_match_tq ts_match_tt websearch_to_tsquery
"""

# xmloption.
_XML = """
    xml xml_is_well_formed
"""

# The labels of an enum, which only DDL changes.
_ENUM = """
    enum_first enum_last enum_range
"""

# Nothing but the types of their arguments.
_TYPES = """
    pg_collation_for pg_typeof
"""

STABLE_BY_SETTINGS: Final = words(
    _TIME_ZONE + _FORMATTING + _TEXT_OUTPUT + _JSON_OUTPUT + _ENCODING + _TEXT_SEARCH + _XML + _ENUM + _TYPES
)
