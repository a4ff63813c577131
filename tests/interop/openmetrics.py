"""Scrapes a metrics port and prints its families as one JSON object, by the strict parser of prometheus_client."""

import json
import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families


def main(url: str) -> None:
    with urllib.request.urlopen(url, timeout=10) as answer:
        content_type = answer.headers["Content-Type"]
        text = answer.read().decode("utf-8")
    families = {}
    for family in text_string_to_metric_families(text):
        samples = [{"name": s.name, "labels": s.labels, "value": s.value} for s in family.samples]
        families[family.name] = {
            "type": family.type,
            "unit": family.unit,
            "help": family.documentation,
            "samples": samples,
        }
    print(json.dumps({"content_type": content_type, "families": families}))


main(sys.argv[1])
