"""Reads a scrape with Prometheus's own Python parsers, and tells what it found as JSON.

    python3 parse.py openmetrics|prometheus < scrape

For each family: its name, its kind, whether it has a help text; and each sample as [name, labels, value].
"""

import json
import sys

if sys.argv[1] == "openmetrics":
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
else:
    from prometheus_client.parser import text_string_to_metric_families

families = [
    {
        "name": family.name,
        "type": family.type,
        "help": family.documentation,
        "samples": [[sample.name, sample.labels, sample.value] for sample in family.samples],
    }
    for family in text_string_to_metric_families(sys.stdin.read())
]
json.dump(families, sys.stdout)
