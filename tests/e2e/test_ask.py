"""Asking: POST /v1/classify and /v1/embed."""
import pytest


@pytest.mark.sanitizer
def test_empty_model_abstains(daemon):
    answer = daemon.ask("where is my card?")
    assert answer["model"] == "default"
    (result,) = answer["results"]
    assert result["label"] is None and result["abstain"] is True and result["labels"] == []
    assert daemon.get("/health/ready")["status"] == "ready"
