"""Write which broker passes which test into docs/how-to/brokers/index.md: `python scripts/broker_matrix.py [--check]`.

What stands there is what the tests run: the shared suite, and for each broker the abilities with which it meets it.
"""

import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "how-to" / "brokers" / "index.md"
BEGIN, END = "<!-- matrix -->", "<!-- end of matrix -->"

BROKERS = {
    "NATS": ("tests.test_broker_nats", "test_nats"),
    "Kafka": ("tests.test_kafka", "test_kafka"),
    "RabbitMQ": ("tests.test_rabbitmq", "test_rabbitmq"),
    "Redis": ("tests.test_broker_redis", "test_redis"),
}


def main(check: bool) -> int:
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    wanted = f"{before}{BEGIN}\n{_table()}\n{END}{rest.partition(END)[2]}"
    if check and wanted != text:
        print(f"{PAGE.relative_to(ROOT)} is not what the tests run: python scripts/broker_matrix.py")
        return 1
    if not check:
        PAGE.write_text(wanted, "utf-8")
    return 0


def _table() -> str:
    from tests.broker_suite import Ability, behaviours

    passed = {
        broker: {str(each) for each in behaviours(import_module(module).ABILITIES)}
        for broker, (module, _) in BROKERS.items()
    }
    lines = [f"| what it does | {' | '.join(BROKERS)} |", "|---" * (len(BROKERS) + 1) + "|"]
    for behaviour in behaviours(~Ability(0)):
        cells = [f"`{test}`" if str(behaviour) in passed[broker] else "-" for broker, (_, test) in BROKERS.items()]
        lines.append(f"| `{behaviour}` | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main("--check" in sys.argv[1:]))
