import pytest

pytest.register_assert_rewrite("tests.broker_suite", "tests.fulfilment")
