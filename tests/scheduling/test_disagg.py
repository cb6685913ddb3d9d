"""Requests in stages: which run, who is named in which header, and what becomes of a stage without an endpoint."""

from __future__ import annotations

import pytest

from extproc.candidates import Candidates
from extproc.domain import Endpoint
from extproc.errors import NoEndpoints, Saturated
from extproc.scheduling import Cycle, Scheduled, Scheduler
from extproc.scheduling.facts import PEER
from tests.fakes.candidates import REQUEST, candidates
from tests.fakes.plugins import blueprint_of, figures_of, problems_of, scheduler_of

D, P, E, E2 = "10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000", "10.0.0.4:8000"
PREFILLER, ENCODERS = "x-prefiller-host-port", "x-encoder-hosts-ports"

PROFILES = f"""
- {{type: always-disagg-pd-decider}}
- {{type: always-disagg-multimodal-decider}}
- {{name: d, type: only-these, parameters: {{keys: ["{D}"]}}}}
- {{name: p, type: only-these, parameters: {{keys: ["{P}"]}}}}
- {{name: e, type: only-these, parameters: {{keys: ["{E}", "{E2}"]}}}}
- {{name: nobody, type: only-these}}
- {{name: full, type: only-these, parameters: {{busy: true}}}}
- {{name: two, type: random-picker, parameters: {{maxNumOfEndpoints: 2}}}}
"""


def config(handler: str, profiles: str, *, multimodal: bool = False, more: str = "") -> str:
    prompt = f"- {{type: told-prompt, parameters: {{tokens: 100, multimodal: {str(multimodal).lower()}}}}}"
    return f"plugins:\n- {handler}\n{prompt}{PROFILES}{more}\nschedulingProfiles:\n{profiles}"


def profile(name: str, *plugins: str) -> str:
    listed = ", ".join(f"{{pluginRef: {plugin}}}" for plugin in plugins)
    return f"- {{name: {name}, plugins: [{listed}]}}\n"


THREE = profile("decode", "d") + profile("prefill", "p") + profile("encode", "e", "two")
PD = "{type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider}}}"
EPD = (
    "{type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider, "
    "encode: always-disagg-multimodal-decider}}}"
)


def scheduled(scheduler: Scheduler, given: Candidates | None = None) -> Scheduled:
    cycle = Cycle(REQUEST)
    made = scheduler.schedule(cycle, given or candidates(4))
    scheduler.picked(cycle, made)
    return made


class TestStages:
    def test_without_deciders_one_decodes_and_does_everything(self) -> None:
        made = scheduled(scheduler_of(config("{type: disagg-profile-handler}", THREE)))
        assert (made.primary, list(made.runs), made.set_headers) == ("decode", ["decode"], ())
        assert made.run.endpoint == D

    def test_prefill_elsewhere(self) -> None:
        scheduler = scheduler_of(config(PD, THREE))
        made = scheduled(scheduler)
        assert made.run.endpoint == D, "who decodes gets the request"
        assert made.set_headers == ((PREFILLER, P),)
        assert figures_of(scheduler) == {"llm_d_epp_disagg_decision_total{prefill-decode}": 1}

    def test_all_three_where_there_are_images(self) -> None:
        scheduler = scheduler_of(config(EPD, THREE, multimodal=True))
        made = scheduled(scheduler)
        headers = dict(made.set_headers)
        assert headers[PREFILLER] == P
        assert sorted(headers[ENCODERS].split(",")) == [E, E2], "all that were picked may encode"
        assert figures_of(scheduler) == {"llm_d_epp_disagg_decision_total{encode-prefill-decode}": 1}

    def test_and_two_where_there_are_none(self) -> None:
        assert dict(scheduled(scheduler_of(config(EPD, THREE))).set_headers) == {PREFILLER: P}

    def test_encode_alone_is_elsewhere(self) -> None:
        handler = "{type: disagg-profile-handler, parameters: {deciders: {encode: always-disagg-multimodal-decider}}}"
        scheduler = scheduler_of(config(handler, THREE, multimodal=True))
        assert list(dict(scheduled(scheduler).set_headers)) == [ENCODERS]
        assert figures_of(scheduler) == {"llm_d_epp_disagg_decision_total{encode-decode}": 1}

    def test_profiles_of_other_names(self) -> None:
        handler = (
            "{type: disagg-profile-handler, parameters: {profiles: {decode: x, prefill: y}, "
            "deciders: {prefill: always-disagg-pd-decider}}}"
        )
        made = scheduled(scheduler_of(config(handler, profile("y", "p") + profile("x", "d"))))
        assert (made.primary, made.run.endpoint, made.set_headers) == ("x", D, ((PREFILLER, P),))

    def test_prefill_first_needs_no_decider(self) -> None:
        handler = (
            "{type: disagg-profile-handler, parameters: {stageOrder: prefill-first, "
            "deciders: {encode: always-disagg-multimodal-decider}}}"
        )
        scheduler = scheduler_of(config(handler, THREE, multimodal=True))
        cycle = Cycle(REQUEST)
        made = scheduler.schedule(cycle, candidates(4))
        assert made.primary == "decode"
        assert set(dict(made.set_headers)) == {PREFILLER, ENCODERS}
        peer = cycle.facts[PEER]
        assert isinstance(peer, Endpoint)
        assert peer.key == D, "the last that was given something"

    def test_ipv6_has_brackets(self) -> None:
        given = candidates(2)
        six = Candidates(
            [Endpoint("2001:db8::1", 8000), Endpoint("2001:db8::2", 9)],
            *(given.waiting, given.running, given.kv_usage, given.in_flight),
            stamp=object(),
        )
        profiles = profile("decode", "max-score-picker") + profile("prefill", "six", "max-score-picker")
        more = '- {type: max-score-picker}\n- {name: six, type: only-these, parameters: {keys: ["[2001:db8::2]:9"]}}\n'
        made = scheduled(scheduler_of(config(PD, profiles, more=more)), six)
        assert made.set_headers == ((PREFILLER, "[2001:db8::2]:9"),)


class TestWithoutAnEndpoint:
    LEFT_OUT = profile("decode", "d") + profile("prefill", "nobody") + profile("encode", "full")

    def test_to_prefill_or_encode_the_request_goes_on_and_that_is_counted_and_said(self) -> None:
        scheduler = scheduler_of(config(EPD, self.LEFT_OUT, multimodal=True))
        made = scheduled(scheduler)
        assert made.set_headers == ()
        assert dict(made.omitted) == {
            "prefill": "profile 'prefill': nobody leaves no endpoint",
            "encode": "profile 'encode': full leaves no endpoint, all have too much to do",
        }
        assert figures_of(scheduler) == {
            "llm_d_epp_disagg_decision_total{decode-only}": 1,
            "extproc_disagg_omitted_total{prefill}": 1,
            "extproc_disagg_omitted_total{encode}": 1,
        }
        assert scheduler.dump()["disagg-profile-handler"]["omitted"] == {"prefill": 1, "encode": 1}

    def test_unless_it_is_strict(self) -> None:
        handler = PD.replace("parameters: {", "parameters: {strict: true, ")
        with pytest.raises(NoEndpoints, match="profile 'prefill': nobody leaves no endpoint"):
            scheduled(scheduler_of(config(handler, self.LEFT_OUT)))

    def test_to_decode_the_request_is_refused(self) -> None:
        profiles = profile("decode", "nobody") + profile("prefill", "p")
        with pytest.raises(NoEndpoints, match="profile 'decode': nobody leaves no endpoint"):
            scheduled(scheduler_of(config(PD, profiles)))
        with pytest.raises(Saturated):
            scheduled(scheduler_of(config(PD, profile("decode", "full") + profile("prefill", "p"))))

    def test_prefill_first_goes_on_to_encode_and_decode(self) -> None:
        handler = (
            "{type: disagg-profile-handler, parameters: {stageOrder: prefill-first, "
            "deciders: {encode: always-disagg-multimodal-decider}}}"
        )
        profiles = profile("decode", "d") + profile("prefill", "nobody") + profile("encode", "e")
        made = scheduled(scheduler_of(config(handler, profiles, multimodal=True)))
        assert list(made.omitted) == ["prefill"]
        assert list(dict(made.set_headers)) == [ENCODERS]


class TestOlderForms:
    def test_flat_names(self) -> None:
        handler = (
            "{type: disagg-profile-handler, parameters: {decodeProfile: x, prefillProfile: y, "
            "deciderPluginName: always-disagg-pd-decider}}"
        )
        made = scheduled(scheduler_of(config(handler, profile("x", "d") + profile("y", "p"))))
        assert (made.primary, made.set_headers) == ("x", ((PREFILLER, P),))

    def test_for_each_stage(self) -> None:
        handler = (
            "{type: disagg-profile-handler, parameters: {prefillDeciderPluginName: always-disagg-pd-decider, "
            "encodeDeciderPluginName: always-disagg-multimodal-decider}}"
        )
        made = scheduled(scheduler_of(config(handler, THREE, multimodal=True)))
        assert set(dict(made.set_headers)) == {PREFILLER, ENCODERS}

    def test_pd_handler(self) -> None:
        text = config("{type: pd-profile-handler, parameters: {deciderPluginName: always-disagg-pd-decider}}", THREE)
        assert scheduled(scheduler_of(text)).set_headers == ((PREFILLER, P),)
        assert any("pd-profile-handler is deprecated" in warning for warning in blueprint_of(text).warnings)

    @pytest.mark.parametrize(("threshold", "headers"), [(0, ((PREFILLER, P),)), (68, ((PREFILLER, P),)), (69, ())])
    def test_pd_handler_with_a_threshold_of_tokens_that_are_not_cached(
        self, threshold: int, headers: tuple[tuple[str, str], ...]
    ) -> None:
        handler = f"{{type: pd-profile-handler, parameters: {{threshold: {threshold}, hashBlockSize: 16}}}}"
        more = "- {type: told-match, parameters: {matched: [2, 0, 0, 0], total: 7}}\n"
        assert scheduled(scheduler_of(config(handler, THREE, more=more))).set_headers == headers

    @pytest.mark.parametrize("kind", ["disagg-headers-handler", "prefill-header-handler"])
    def test_headers_handlers_beside_it_say_nothing_twice(self, kind: str) -> None:
        text = config(PD, THREE, more=f"- {{type: {kind}}}\n")
        assert scheduled(scheduler_of(text)).set_headers == ((PREFILLER, P),)
        assert any("deprecated" in warning for warning in blueprint_of(text).warnings)


class TestPrefixBasedDecider:
    @pytest.mark.parametrize(
        ("parameters", "yes"),
        [
            ("{}", False),
            ("{nonCachedTokens: 68}", True),
            ("{nonCachedTokens: 69}", False),
            ("{nonCachedTokens: 101}", False),
            ("{nonCachedTokens: 1, promptTokens: 100}", True),
            ("{nonCachedTokens: 1, promptTokens: 101}", False),
        ],
    )
    def test_of_a_prompt_of_100_tokens_32_of_which_are_cached_where_it_decodes(self, parameters: str, yes: bool) -> None:
        more = f"- {{type: prefix-based-pd-decider, parameters: {parameters}}}\n"
        more += "- {type: told-match, parameters: {matched: [2, 7, 7, 7], total: 7}}\n"
        handler = PD.replace("always-disagg-pd-decider", "prefix-based-pd-decider")
        made = scheduled(scheduler_of(config(handler, THREE, more=more)), candidates(4))
        assert bool(made.set_headers) == yes

    def test_the_match_is_the_whole_pools(self) -> None:
        """The proxy allows some endpoints only, and the profile leaves fewer."""
        more = "- {type: prefix-based-pd-decider, parameters: {nonCachedTokens: 60}}\n"
        more += "- {type: told-match, parameters: {matched: [7, 0, 3, 0], total: 7}}\n"
        profiles = profile("decode", "e") + profile("prefill", "p")
        handler = PD.replace("always-disagg-pd-decider", "prefix-based-pd-decider")
        made = scheduled(scheduler_of(config(handler, profiles, more=more)), candidates(4).only([1, 2]))
        assert made.run.endpoint == E
        assert made.set_headers == (), "3 × 16 of 100 tokens are there"


class TestConfig:
    @pytest.mark.parametrize(
        ("handler", "profiles", "problem"),
        [
            (
                "{type: disagg-profile-handler}",
                profile("prefill", "p"),
                "plugins[0].parameters.profiles.decode: no profile is called 'decode' (there are: prefill)",
            ),
            (
                "{type: disagg-profile-handler, parameters: {stageOrder: prefill-first}}",
                profile("decode", "d"),
                "plugins[0].parameters.profiles.prefill: no profile is called 'prefill' (there are: decode)",
            ),
            (
                "{type: disagg-profile-handler, parameters: {deciders: {prefill: nobody-else}}}",
                THREE,
                "plugins[0].parameters.deciders.prefill: no plugin is called 'nobody-else'",
            ),
            (
                "{type: disagg-profile-handler, parameters: {deciderPluginName: two}}",
                THREE,
                "plugins[0].parameters.deciderPluginName: 'two' is a picker, expected a decider",
            ),
            (
                "{type: disagg-profile-handler, parameters: {deciderPluginName: a, deciders: {prefill: a}}}",
                THREE,
                "deciderPluginName is the older form, and can't be mixed",
            ),
            (
                "{type: disagg-profile-handler, parameters: {stageOrder: prefill-first, deciders: {prefill: a}}}",
                THREE,
                "deciders.prefill: prefill always runs where stageOrder is prefill-first",
            ),
            (
                "{type: pd-profile-handler}",
                profile("decode", "d"),
                "plugins[0].parameters.prefillProfile: no profile is called 'prefill' (there are: decode)",
            ),
        ],
    )
    def test_problems(self, handler: str, profiles: str, problem: str) -> None:
        assert any(problem in each for each in problems_of(config(handler, profiles)))

    def test_a_decider_for_a_profile_that_is_not_there_is_told(self) -> None:
        blueprint = blueprint_of(config(EPD, profile("decode", "d") + profile("prefill", "p")))
        told = "plugins[0].parameters.deciders.encode: encode never runs, as no profile is called 'encode'"
        assert told in blueprint.warnings
        assert scheduled(blueprint.scheduler(lambda: 0.0)).set_headers == ((PREFILLER, P),)

    def test_a_producer_in_a_profile_is_told(self) -> None:
        """As in upstream's guide of predicted latency."""
        blueprint = blueprint_of(config(PD, THREE.replace("pluginRef: d}", "pluginRef: d}, {pluginRef: told-prompt}")))
        told = "schedulingProfiles[0].plugins[1].pluginRef: 'told-prompt' is a producer, which does nothing in a profile"
        assert told in blueprint.warnings
