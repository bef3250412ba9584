"""Where events come from: one topic by default, several with a codec each."""

import pytest

from pipeline.config.settings import Settings, load
from pipeline.errors import ConfigError
from pipeline.events.codecs.auto import AutoCodec

MAPPING = {"model": "m", "arrived_at": "at", "e2e_seconds": {"path": "ms", "unit": "ms"}}


def test_the_requests_topic_is_the_source_without_any_settings():
    (source,) = Settings().sources()
    assert (source.topic, source.codec) == ("inference.requests.v1", "auto")
    assert isinstance(source.reader(), AutoCodec)


def test_sources_of_a_file(tmp_path):
    file = tmp_path / "tokentide.toml"
    file.write_text(
        '[stream.mapping]\nmodel = "m"\narrived_at = "at"\ne2e_seconds = { path = "ms", unit = "ms" }\n'
        '[[stream.sources]]\ntopic = "spans"\ncodec = "otlp_json"\n'
        '[[stream.sources]]\ntopic = "acme"\ncodec = "mapping"\n'
        '[[stream.sources]]\ntopic = "sglang"\ncodec = "sglang"\nmodel = "m"\npool = "p"\n'.replace("\\\n", "\n")
    )
    settings = load(file)
    assert settings.source_topics() == ("spans", "acme", "sglang")
    assert [source.reader().name for source in settings.sources()] == ["otlp_json", "mapping", "sglang"]


def test_one_topic_with_a_codec_of_its_own():
    (source,) = load(None, stream={"codec": "mapping", "mapping": MAPPING}).sources()
    assert source.reader().name == "mapping"


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ({"codec": "nope"}, "there is no codec 'nope'"),
        ({"codec": "mapping"}, "needed"),
        ({"sources": [{"topic": "a", "codec": "nope"}]}, "there is no codec"),
        ({"sources": [{"topic": "a"}, {"topic": "a"}]}, "name of its own"),
        ({"sources": [{"topic": "a b"}]}, "topic"),
        ({"sources": [{"topic": "a", "mapping": MAPPING}]}, "mapping is for codec"),
        ({"sources": [{"codec": "auto"}]}, "topic"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_before_the_start(stream, words):
    with pytest.raises(ConfigError, match=words):
        load(None, stream=stream)
