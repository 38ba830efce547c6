"""Planted segments are found, a continuum is not called natural, and what leaves the step says what it is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from icplab import features, segments
from icplab.core.config import Settings
from icplab.core.findings import findings_table
from icplab.core.schema import CANONICAL, check_artefact
from icplab.segments.blocks import read_blocks, variable_names, write_recipe
from icplab.segments.fit import one_of_each
from icplab.segments.mixture import Market, fit_mixture, log_density, posterior
from icplab.segments.stability import jaccard
from icplab.segments.twins import copula_null
from icplab.simulate import simulate_market

AS_OF = pd.Timestamp("2026-06-30").as_unit("us")
SETTINGS = Settings(traits={})
QUICK = {"settings": SETTINGS, "seed": 3, "nulls": 19, "starts": 8, "resamples": 4}


def opened(scenario: str, accounts: int, seed: int):
    """A simulated market as the step sees it, with its truth."""
    market = simulate_market(accounts, seed=seed, scenario=scenario)
    tables = features.view_on(market.tables, AS_OF)
    return (
        features.build_accounts(market.tables, SETTINGS, AS_OF),
        features.build_catalogue(tables, SETTINGS),
        features.build_opportunities(market.tables, SETTINGS, AS_OF),
        tables,
        market.truth,
    )


@pytest.fixture(scope="module")
def market():
    return opened("clean", 1000, 11)


@pytest.fixture(scope="module")
def found(market):
    return segments.fit_segments(market[0], market[1], **QUICK)


@pytest.fixture(scope="module")
def continuum():
    accounts, catalogue, *_ = opened("continuum", 800, 3)
    return accounts, segments.fit_segments(accounts, catalogue, **QUICK)


def small(n: int = 240, **columns) -> tuple[pd.DataFrame, pd.DataFrame]:
    """An account table and a catalogue from named columns."""
    kinds = {"float64": "number", "boolean": "flag", "str": "category"}
    frame = pd.DataFrame({"account_id": [f"A{i:04d}" for i in range(n)], **columns})
    traits = [(c, kinds[str(frame[c].dtype)]) for c in columns if c not in ("created_at", "family_id")]
    catalogue = pd.DataFrame(traits, columns=["trait", "kind"]).astype("str")
    catalogue = catalogue.assign(table="accounts", role="", family="firmographic", excluded=False, fill_rate=1.0)
    return frame, catalogue


def two_groups(n: int = 240, seed: int = 5) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Two groups that differ in size, industry and need, one third and two thirds of the accounts."""
    rng = np.random.default_rng(seed)
    group = (np.arange(n) % 3 == 0).astype(int)
    frame, catalogue = small(
        n,
        employees=np.exp(3.0 + 3.0 * group + rng.normal(0, 0.6, n)).round() + 1,
        industry=pd.array(
            np.where(rng.random(n) < 0.85, np.array(["retail", "energy"])[group], "other trades"), dtype="str"
        ),
        need=pd.array(np.where(rng.random(n) < 0.85, np.array(["speed", "safety"])[group], "price"), dtype="str"),
        has_plant=pd.array(rng.random(n) < np.array([0.1, 0.9])[group], dtype="boolean"),
        idle=pd.array(rng.random(n) < 0.3, dtype="boolean"),
    )
    return frame, catalogue, group


class TestPlantedSegments:
    def test_they_are_found_almost_as_well_as_the_oracle_finds_them(self, market, found):
        truth = market[4].accounts.set_index("account_id")
        oracle = truth.filter(regex="^oracle_segment_").to_numpy().argmax(axis=1)
        own = found.assignments.set_index("account_id")["segment_id"].reindex(truth.index)
        share = adjusted_rand_score(truth["segment"], own) / adjusted_rand_score(truth["segment"], oracle)
        assert found.verdict == "natural"
        assert len(found.segment_ids) == 4
        assert share >= 0.9

    def test_traits_without_segments_get_no_rates_of_their_own(self, market, found):
        names = variable_names(found.assigner["recipe"])
        idle = set(market[4].traits["trait"]) - {"c01"}
        assert idle & set(names), "the market plants traits for winning that tell nothing about segments"
        own = [name for name, row in zip(names, found.assigner["own"], strict=True) if any(row) and name in idle]
        assert len(own) <= 0.1 * len(idle & set(names))

    def test_ids_go_from_the_largest_segment_to_the_smallest(self, found):
        size = found.assignments["segment_id"].value_counts().reindex(found.segment_ids)
        assert size.is_monotonic_decreasing
        assert found.segment_ids == ["S1", "S2", "S3", "S4"]

    def test_every_filter_keeps_to_four_conditions_and_describes_its_segment(self, market, found):
        rules = segments.describe_segments(market[0], found.assignments, found.assigner)
        assert (rules["conditions"].map(lambda c: len(json.loads(c))) <= 4).all()
        assert rules["f1"].mean() >= 0.7
        for row in rules.to_dict("records"):
            passed = segments.rule_holds(json.loads(row["conditions"]), row["needed"], market[0])
            inside = found.assignments.set_index("account_id")["segment_id"].eq(row["segment_id"])
            inside = inside.reindex(market[0]["account_id"]).to_numpy()
            assert passed.sum() == row["matched"]
            assert (passed & inside).sum() / passed.sum() == pytest.approx(row["precision"], abs=1e-4)

    def test_names_are_unique_and_short(self, found):
        names = found.assigner["names"]
        assert len(set(names)) == len(names)
        assert all(1 <= len(n.split()) <= 5 for n in names)


class TestWhatDoesNotMatter:
    def test_the_order_of_rows_changes_nothing(self, market, found):
        mixed = market[0].sample(frac=1, random_state=4)
        again = segments.fit_segments(mixed, market[1].sample(frac=1, random_state=4), **QUICK)
        assert again.assigner == found.assigner
        pd.testing.assert_frame_equal(again.assignments, found.assignments)

    def test_outcomes_do_not_enter(self):
        frame, catalogue, _ = two_groups()
        rng = np.random.default_rng(0)
        plain = segments.fit_segments(frame, catalogue, **QUICK)
        outcome = frame.assign(n_won=rng.poisson(2, len(frame)).astype(float), won_acv=rng.lognormal(9, 1, len(frame)))
        assert segments.fit_segments(outcome, catalogue, **QUICK).assigner == plain.assigner

    def test_forbidden_and_excluded_traits_do_not_enter(self):
        frame, catalogue, _ = two_groups()
        catalogue["role"] = catalogue["role"].mask(catalogue["trait"] == "need", "forbidden")
        catalogue["excluded"] = catalogue["trait"].eq("industry")
        recipe = write_recipe(frame, catalogue)
        assert not {"need", "industry"} & set(variable_names(recipe))


class TestFrozenAssigner:
    def test_read_back_from_json_it_gives_exactly_the_fitted_assignment(self, market, found):
        frozen = json.loads(json.dumps(found.assigner))
        again = segments.assign_segments(frozen, market[0], market[1])
        pd.testing.assert_frame_equal(again, found.assignments)

    def test_an_account_is_assigned_alone_as_in_company(self, market, found):
        some = market[0].iloc[[5, 77, 301]]
        alone = pd.concat([segments.assign_segments(found.assigner, some.iloc[[i]]) for i in range(3)])
        together = found.assignments.set_index("account_id").loc[some["account_id"]].reset_index()
        pd.testing.assert_frame_equal(alone.reset_index(drop=True), together)

    def test_accounts_with_too_little_data_are_unassigned(self, found, market):
        blank = market[0].head(2).copy()
        traits = [t for t in market[1].loc[market[1]["table"] == "accounts", "trait"] if t in blank]
        blank = blank.assign(**{t: pd.array([None, None], dtype=blank[t].dtype) for t in traits})
        told = segments.assign_segments(found.assigner, blank)
        assert (told["segment_id"] == "unassigned").all()
        assert told["membership"].isna().all()

    def test_columns_that_are_not_delivered_any_more_are_unknown(self, found, market):
        told = segments.assign_segments(found.assigner, market[0].drop(columns=["employees"]))
        assert set(told["segment_id"]) == set(found.segment_ids)

    def test_assignments_and_posteriors_agree(self, found):
        table = found.posteriors.set_index("account_id")
        assert table.sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-5)
        best = table.idxmax(axis=1).reindex(found.assignments["account_id"]).to_numpy()
        assert (best == found.assignments["segment_id"].to_numpy()).all()
        check_artefact("account_segments", found.assignments)


class TestNoSegments:
    def test_a_continuum_is_not_called_natural(self, continuum):
        found = continuum[1]
        assert found.verdict in ("reproducible", "constructive")
        assert found.evidence["gain_ratio"] < 1.25

    def test_noise_is_one_whole_market(self):
        accounts, catalogue, *_ = opened("null", 500, 4)
        found = segments.fit_segments(accounts, catalogue, **QUICK)
        assert found.verdict == "none"
        assert set(found.assignments["segment_id"]) == {"S0"}
        assert set(found.assignments["segment"]) == {"whole market"}

    def test_a_uniform_or_spiked_number_makes_no_segments(self):
        rng = np.random.default_rng(2)
        n = 600
        frame, catalogue = small(
            n,
            founded=rng.integers(1950, 2024, n).astype(float),
            size=rng.lognormal(4, 1.5, n),
            score=np.where(rng.random(n) < 0.4, 0.0, rng.normal(50, 10, n)),
            area=pd.array(rng.choice(["north", "south", "west"], n), dtype="str"),
        )
        assert segments.fit_segments(frame, catalogue, **QUICK).verdict == "none"

    def test_too_few_accounts_are_not_cut(self):
        frame, catalogue, _ = two_groups(84)
        found = segments.fit_segments(frame, catalogue, **QUICK)
        assert found.verdict == "none"
        assert "84 accounts" in found.evidence["reason"]

    def test_accounts_without_a_column_to_cut_by_are_not_cut_and_that_is_the_reason_given(self):
        frame, catalogue, _ = two_groups(200)
        bare = frame[[c for c in frame if c not in set(catalogue["trait"])]]
        found = segments.fit_segments(bare, catalogue.iloc[:0], **QUICK)
        assert found.verdict == "none"
        assert found.evidence["reason"] == "the accounts carry no column to cut them by"

    def test_bands_of_a_constructed_cut_are_their_own_filter(self):
        frame, _ = small(5, employees=[5.0, 10.0, 99.0, 100.0, None])
        recipe = {"numbers": [], "discrete": [], "left_out": []}
        ids = ["S1", "S2", "S3"]
        assigner = {
            "kind": "bands",
            "recipe": recipe,
            "trait": "employees",
            "edges": [10.0, 100.0],
            "ids": ids,
            "names": ids,
        }
        told = segments.assign_segments(assigner, frame)
        assert told["segment_id"].tolist() == ["S1", "S2", "S2", "S3", "unassigned"]
        rules = segments.describe_segments(frame, told, assigner)
        assert rules["rule"].tolist() == ["employees < 10", "employees from 10 to below 100", "employees ≥ 100"]
        assert (rules["f1"] == 1.0).all()

    @pytest.mark.datasets
    def test_85_real_accounts_are_not_called_natural(self, datasets):
        raw = pd.read_csv(datasets / "maven_crm" / "accounts.csv", dtype={"account": "str", "sector": "str"})
        frame, catalogue = small(
            len(raw),
            industry=raw["sector"].astype("str"),
            employees=raw["employees"].astype("float64"),
            annual_revenue=raw["revenue"].astype("float64"),
            founded_year=raw["year_established"].astype("float64"),
            country=raw["office_location"].astype("str"),
        )
        assert len(frame) == 85
        assert segments.fit_segments(frame, catalogue, **QUICK).verdict == "none"


class TestMixture:
    def test_its_density_is_that_of_scipy_with_unknown_cells_left_out(self):
        from scipy.stats import multivariate_normal

        frame, catalogue, _ = two_groups(60)
        rng = np.random.default_rng(1)
        frame["revenue"] = frame["employees"] * rng.lognormal(0, 0.5, 60)
        catalogue = pd.concat([catalogue, catalogue.head(1).assign(trait="revenue")], ignore_index=True)
        for column, every in (("employees", 4), ("revenue", 5), ("industry", 3)):
            frame.loc[frame.index % every == 0, column] = None
        blocks = read_blocks(write_recipe(frame, catalogue), frame)
        market = Market(blocks, exact=True)
        model = fit_mixture(market, 2, np.random.default_rng(0), 4)
        naive = np.zeros((60, 2))
        for i in range(60):
            seen = ~np.isnan(blocks.numbers[i])
            for k in range(2):
                naive[i, k] = np.log(model.weight[0, k]) + np.log(model.rate[0, :, k]) @ blocks.levels[i]
                if seen.any():
                    covariance = model.covariance[0, 0][np.ix_(seen, seen)]
                    naive[i, k] += multivariate_normal(model.mean[0, k, seen], covariance).logpdf(
                        blocks.numbers[i, seen]
                    )
        told = np.empty((60, 2))
        told[market.order] = log_density(market, model)[0].T
        np.testing.assert_allclose(told, naive, rtol=1e-9)

    def test_weights_of_two_count_like_rows_that_stand_twice(self):
        frame, catalogue, _ = two_groups(90)
        blocks = read_blocks(write_recipe(frame, catalogue), frame)
        doubled = blocks.take(np.repeat(np.arange(90), 2))
        one = fit_mixture(Market(blocks, np.full(90, 2.0)), 1, np.random.default_rng(0))
        two = fit_mixture(Market(doubled), 1, np.random.default_rng(0))
        assert one.log_likelihood[0] == pytest.approx(two.log_likelihood[0], rel=1e-9)
        assert one.parameters == two.parameters

    def test_two_clear_groups_are_told_apart_and_the_idle_trait_is_not_used(self):
        frame, catalogue, group = two_groups()
        blocks = read_blocks(write_recipe(frame, catalogue), frame)
        market = Market(blocks)
        model = fit_mixture(market, 2, np.random.default_rng(0), 8)
        assert adjusted_rand_score(group, posterior(market, model).argmax(axis=1)) > 0.95
        names = variable_names(write_recipe(frame, catalogue))
        assert not model.own[0][names.index("idle")].any()
        assert model.own[0][names.index("need")].any()

    def test_the_null_market_keeps_margins_unknown_cells_and_dependence(self, market):
        accounts, catalogue = market[:2]
        blocks = read_blocks(write_recipe(accounts, catalogue), accounts)
        twin = copula_null(blocks)(np.random.default_rng(0))
        assert (np.isnan(twin.numbers) == np.isnan(blocks.numbers)).all()
        known = blocks.levels.sum(axis=0)
        assert np.abs(twin.levels.sum(axis=0) - known).max() <= 5 * np.sqrt(known.max())
        both = [pd.DataFrame(b.numbers).corr().to_numpy()[0, 1] for b in (blocks, twin)]
        assert both[0] == pytest.approx(both[1], abs=0.05)


class TestReading:
    def test_copies_of_a_record_in_one_family_are_tested_once(self):
        frame, catalogue, _ = two_groups(60)
        frame["family_id"] = frame["account_id"]
        copies = frame.head(10).assign(account_id=[f"B{i}" for i in range(10)])
        stranger = frame.head(1).assign(account_id="C0", family_id="C0")
        everyone = pd.concat([frame, copies, stranger], ignore_index=True)
        blocks = read_blocks(write_recipe(everyone, catalogue), everyone)
        once = one_of_each(blocks, everyone)
        assert sorted(once.account_id) == sorted([*frame["account_id"], "C0"])

    def test_a_number_is_read_by_rank_and_equal_values_get_equal_scores(self):
        frame, catalogue = small(200, size=np.repeat(np.exp(np.linspace(0, 9, 50)), 4))
        blocks = read_blocks(write_recipe(frame, catalogue), frame)
        score = pd.Series(blocks.numbers[:, 0]).groupby(frame["size"]).agg(["min", "max"])
        assert (score["min"] == score["max"]).all()
        assert score["min"].is_monotonic_increasing
        assert abs(blocks.numbers.mean()) < 0.05

    def test_a_trait_that_follows_from_another_is_left_out(self):
        rng = np.random.default_rng(0)
        country = rng.choice(["DE", "FR", "US", "CA"], 300)
        frame, catalogue = small(
            300,
            country=pd.array(country, dtype="str"),
            region=pd.array(np.where(np.isin(country, ["DE", "FR"]), "EMEA", "NA"), dtype="str"),
        )
        recipe = write_recipe(frame, catalogue)
        assert variable_names(recipe) == ["region"]
        assert recipe["left_out"] == [{"trait": "country", "why": "follows from region"}]

    def test_tools_that_a_data_vendor_delivers_are_left_out(self):
        rng = np.random.default_rng(0)
        n = 600
        late = np.arange(n) >= n // 2
        held = rng.random((n, 3)) < np.where(late, 0.7, 0.05)[:, None]
        genuine = rng.random(n) < 0.4
        stack = [
            ";".join([f"v{j}" for j in range(3) if h[j]] + (["own"] if g else []) + ["crm"])
            for h, g in zip(held, genuine, strict=True)
        ]
        frame, catalogue = small(
            n,
            stack=pd.array(stack, dtype="str"),
            created_at=pd.date_range("2020-01-01", periods=n).astype("datetime64[us]"),
        )
        catalogue["kind"] = "multi"
        recipe = write_recipe(frame, catalogue)
        assert variable_names(recipe) == ["stack: own"]
        assert {e["why"] for e in recipe["left_out"]} == {"follows the date on which the record was made"}

    def test_levels_never_seen_before_are_unknown(self):
        frame, catalogue, _ = two_groups()
        recipe = write_recipe(frame, catalogue)
        blocks = read_blocks(recipe, frame.head(1).assign(need=pd.array(["teleport"], dtype="str")))
        need = variable_names(recipe).index("need")
        assert blocks.levels[:, blocks.variable == need].sum() == 0


class TestContinuity:
    def table(self, **groups: str) -> pd.DataFrame:
        """Assignments from a string of digits per name: account i is in segment S<digit>."""
        text = groups["ids"]
        ids = pd.Series([f"S{c}" for c in text], dtype="str")
        return pd.DataFrame({"account_id": [f"A{i}" for i in range(len(text))], "segment_id": ids, "segment": ids})

    def test_labels_that_only_swapped_keep_their_ids(self):
        matches = segments.match_segments(self.table(ids="1111222233"), self.table(ids="3331111122"))
        assert dict(zip(matches["segment_id"], matches["new_id"], strict=True)) == {"S1": "S2", "S2": "S3", "S3": "S1"}
        assert (matches["change"] == "kept").all()

    def test_a_split_gets_a_new_id_and_an_ended_id_is_not_used_again(self):
        matches = segments.match_segments(self.table(ids="1111111222"), self.table(ids="1111333333"))
        told = matches.set_index("segment_id")
        assert told.loc["S1", "new_id"] == "S1"
        assert told.loc["S3", "new_id"] == "S2"
        split = segments.match_segments(self.table(ids="111111111122"), self.table(ids="111111333322"))
        assert split.set_index("segment_id").loc["S3", ["change", "new_id", "previous_id"]].tolist() == [
            "split",
            "S4",
            "S1",
        ]
        ended = segments.match_segments(self.table(ids="1122"), self.table(ids="1111"))
        assert ended["change"].tolist() == ["merged", "ended"]

    def test_a_refit_on_the_same_accounts_keeps_every_id(self, market, found):
        order = [2, 0, 3, 1]
        shuffled = {old: f"S{order.index(i) + 1}" for i, old in enumerate(found.segment_ids)}
        other = segments.keep_ids(
            found,
            pd.DataFrame({"segment_id": list(shuffled), "new_id": list(shuffled.values())}).astype("str"),
        )
        back, matches = segments.continue_segments(other, found.document(), market[0])
        pd.testing.assert_frame_equal(back.assignments, found.assignments)
        pd.testing.assert_frame_equal(segments.assign_segments(other.assigner, market[0]), other.assignments)
        assert (matches["change"] == "kept").all()

    def test_a_refit_that_finds_the_same_segments_stays_in_the_shadow(self, market, found):
        refit = replace(found, assignments=found.assignments.copy())
        swapped = refit.assignments["segment_id"].eq("S1") & (refit.assignments["membership"] < 0.9)
        refit.assignments.loc[swapped, "segment_id"] = "S2"
        assert swapped.any()
        after, matches = segments.continue_segments(refit, found.document(), market[0])
        assert (matches["change"] == "kept").all()
        pd.testing.assert_frame_equal(after.assignments, found.assignments)

    def test_a_trait_that_is_excluded_today_ends_the_frozen_assigner(self, market, found):
        accounts, catalogue = market[:2]
        used = found.assigner["recipe"]["discrete"][0]["trait"]
        less = catalogue.assign(excluded=catalogue["excluded"] | (catalogue["trait"] == used))
        refit = segments.fit_segments(accounts, less, **QUICK)
        after, _ = segments.continue_segments(refit, found.document(), accounts)
        assert used not in {e["trait"] for e in after.assigner["recipe"]["discrete"]}

    def test_without_an_earlier_run_there_is_nothing_to_match(self, market, found):
        same, matches = segments.continue_segments(found, None, market[0])
        assert same is found
        assert matches is None


@pytest.fixture(scope="module")
def profiled(market, found):
    """rules, stability, segments and differences of the planted market."""
    accounts, catalogue, opportunities, tables, _ = market
    rules = segments.describe_segments(accounts, found.assignments, found.assigner)
    stability = segments.measure_stability(found, accounts, seed=1, resamples=4)
    given = {"rules": rules, "stability": stability, "tables": tables}
    table = segments.measure_segments(found, accounts, opportunities, catalogue=catalogue, settings=SETTINGS, **given)
    differences = segments.measure_differences(found, accounts, opportunities, catalogue=catalogue)
    return given, table, differences


class TestProfiles:
    def test_parts_sum_to_the_market(self, market, profiled):
        table = profiled[1]
        assert table["accounts"].sum() == len(market[0])
        assert table["wins"].sum() == market[0]["n_won"].sum()
        assert table["share"].sum() == pytest.approx(1.0, abs=1e-5)

    def test_dimensions_and_areas_stay_in_their_range(self, profiled):
        table = profiled[1]
        five = table[["fit", "urgency", "buying_process", "feasibility"]]
        areas = table[["strategic_fit", "path_clarity", "revenue_potential"]]
        assert five.stack().between(0, 100).all()
        assert areas.stack().between(1, 5).all()

    def test_the_segment_that_wins_most_has_the_best_fit(self, market, found, profiled):
        of = found.assignments.set_index("account_id")["segment_id"]
        counts = market[0].groupby(market[0]["account_id"].map(of))[["n_won", "n_lost"]].sum()
        rate = counts["n_won"] / counts.sum(axis=1)
        assert profiled[1].set_index("segment_id")["fit"].idxmax() == rate.idxmax()

    def test_a_score_set_by_people_takes_the_place_of_the_derived_one(self, market, found, profiled):
        accounts, catalogue, opportunities, *_ = market
        playbook = {"segments": {"S1": {"scores": {"strategic_fit": 5, "sales_feedback": 9}}}}
        told = segments.measure_segments(
            found,
            accounts,
            opportunities,
            catalogue=catalogue,
            settings=replace(SETTINGS, playbook=playbook),
            **profiled[0],
        ).set_index("segment_id")
        assert told.loc["S1", "strategic_fit"] == 5
        assert told.loc["S1", "strategic_fit_derived"] != 5
        assert told.loc["S1", "scored_by_people"] == "strategic_fit", "9 is no score from 1 to 5"

    def test_traits_that_entered_carry_no_p_value(self, profiled):
        differences = profiled[2]
        assert differences.loc[differences["entered"], "p_value"].isna().all()
        won = differences.set_index("dimension").loc["fit"]
        assert won["differs"]
        assert won["p_value"] < 0.05

    def test_a_block_of_idle_traits_contributes_nothing_and_the_telling_ones_all(self):
        accounts, catalogue, _ = two_groups()
        catalogue = catalogue.assign(
            family=catalogue["trait"].map({"idle": "behavioural"}).fillna("firmographic"),
            role=catalogue["trait"].map({"need": "need"}).fillna(""),
        )
        found = segments.fit_segments(accounts, catalogue, **QUICK)
        blocks = segments.measure_blocks(found, accounts, catalogue).set_index("block")
        largest = found.assignments["segment_id"].value_counts(normalize=True).max()
        assert blocks.loc["behavioural", ["traits", "share", "moved_without"]].tolist() == [1, 0, 0]
        assert blocks.loc["behavioural", "alone"] == pytest.approx(largest, abs=1e-4)
        assert blocks["share"].sum() == pytest.approx(1, abs=1e-3)
        assert blocks.index[0] == "firmographic"
        assert blocks.loc["firmographic", "moved_without"] > blocks.loc["needs", "moved_without"]
        assert blocks.loc["needs", "alone"] > largest
        assert "firmographic" in segments.say_blocks(blocks.reset_index())

    def test_jaccard_of_sets_that_share_one_of_three_is_a_third(self):
        one = np.array([[1.0], [1.0], [0.0]])
        other = np.array([[0.0], [1.0], [1.0]])
        assert jaccard(one, other)[0, 0] == pytest.approx(1 / 3)

    def test_stability_is_no_test_of_existence_and_is_null_for_the_whole_market(self):
        frame, catalogue, _ = two_groups(60)
        whole = segments.fit_segments(frame, catalogue, **QUICK)
        assert segments.measure_stability(whole, frame, seed=1)["jaccard"].isna().all()


class TestFindings:
    def tell(self, market, found, profiled, **changed):
        given = {
            "rules": profiled[0]["rules"],
            "table": profiled[1],
            "differences": profiled[2],
            "matches": None,
            **changed,
        }
        told = segments.findings(
            found,
            given["table"],
            given["rules"],
            given["differences"],
            market[0],
            settings=SETTINGS,
            matches=given["matches"],
        )
        return findings_table(told).set_index("code")

    def test_a_clean_market_raises_nothing_to_watch(self, market, found, profiled):
        told = self.tell(market, found, profiled)
        assert told["severity"].eq("info").all()
        assert told.index.tolist() == ["segments-natural"]
        assert "1,000 accounts fall into 4 natural segments" in told["sentence"].iloc[0]

    def test_few_wins_and_weak_filters_are_said(self, market, found, profiled):
        poor = profiled[1].assign(wins=[40.0, 3.0, 2.0, 1.0])
        weak = profiled[0]["rules"].assign(f1=[0.8, 0.8, 0.8, 0.41])
        told = self.tell(market, found, profiled, table=poor, rules=weak)
        assert {"evidence-poor", "too-many-segments", "not-describable"} <= set(told.index)
        assert "0.41" in told.loc["not-describable", "sentence"]

    def test_segments_that_change_no_decision_are_only_labels(self, market, found, profiled):
        told = self.tell(market, found, profiled, differences=profiled[2].assign(differs=False))
        assert "label-only" in told.index

    def test_a_dissolved_segment_is_to_be_retired(self, market, found, profiled):
        matches = pd.DataFrame(
            {"segment_id": [None], "previous_id": ["S5"], "new_id": [None], "jaccard": [0.2], "change": ["ended"]}
        )
        told = self.tell(market, found, profiled, matches=matches)
        assert told.loc["retire-segment", "subject"] == "S5"

    @pytest.mark.parametrize("change", ["split", "merged"])
    def test_a_split_and_a_merger_are_reported(self, market, found, profiled, change):
        row = {"segment_id": ["S1"], "previous_id": ["S1"], "new_id": ["S6"], "jaccard": [0.4], "change": [change]}
        told = self.tell(market, found, profiled, matches=pd.DataFrame(row))
        assert told.loc["segments-changed", "subject"] == "S6"

    def test_segments_that_are_industries_or_imports_are_named_as_such(self):
        frame, catalogue, group = two_groups(300)
        frame["industry"] = pd.array(np.array(["retail", "energy"])[group], dtype="str")
        frame["created_at"] = pd.to_datetime(np.where(group, "2021-05-01", "2024-05-01")).astype("datetime64[us]")
        catalogue = catalogue[catalogue["kind"] != "flag"]  # yes/no traits that follow the date are left out beforehand
        found = segments.fit_segments(frame, catalogue, **QUICK)
        assert len(found.segment_ids) == 2
        empty = CANONICAL["accounts"].empty()
        rules = segments.describe_segments(frame, found.assignments, found.assigner)
        table = pd.DataFrame({"segment_id": found.segment_ids, "segment": found.segment_ids, "wins": [99.0, 99.0]})
        told = segments.findings(found, table, rules, empty, frame, settings=SETTINGS)
        codes = {f.code for f in told}
        assert {"industry-only", "source-artefact"} <= codes
