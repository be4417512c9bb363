"""Will electricity cost 100 € or more per MWh in this hour? Asked an hour before, from one plain CSV file."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.spec import (
    Aggregation,
    Analysis,
    AnalysisMetric,
    Cases,
    CsvFiles,
    DriftPolicy,
    Entity,
    Expectation,
    FeatureService,
    FeatureView,
    Field,
    Gate,
    Label,
    Pause,
    Project,
    RetrainPolicy,
    RolloutPolicy,
    SetWeight,
    SklearnModel,
    Source,
    Timeline,
)

FILE = CsvFiles(str(Path(__file__).with_name("prices.csv")))
HOUR, DAY, START = timedelta(hours=1), timedelta(days=1), datetime(2024, 1, 1, tzinfo=UTC)
ZONE = Entity("zone", ("zone",), "A bidding zone of the market.")

# The same file twice: what is known when somebody asks, and what is known once the hour is over.
HOURS = Source(
    name="hours", reader=FILE, key=("hour_id",), event_timestamp="asked",
    fields=(
        Field("hour_id", "string"), Field("zone", "string"), Field("asked", "timestamp"),
        Field("load_forecast_gw", "float64"), Field("wind_forecast_gw", "float64"),
    ),
    expectations=(Expectation("load_forecast_gw", not_null=True, minimum=0, maximum=200),),
)
PRICES = Source(
    name="prices", reader=FILE, key=("hour_id",), event_timestamp="delivered",
    fields=(
        Field("hour_id", "string"), Field("zone", "string"), Field("delivered", "timestamp"),
        Field("price_eur", "float64"), Field("spike", "int64"),
    ),
    expectations=(Expectation("price_eur", not_null=True, minimum=-500, maximum=4_000),),
)
PRICE_HISTORY = FeatureView(
    name="price_history", entities=(ZONE,), source=PRICES,
    fields=(Field("price_eur", "float64"), Field("spike", "int64")),
    aggregations=(
        Aggregation("price_eur", "last", DAY),
        Aggregation("price_eur", "mean", DAY),
        Aggregation("price_eur", "max", DAY),
        Aggregation("spike", "mean", 7 * DAY, hop=2 * HOUR),
    ),
)
FEATURES = FeatureService("spike_features", ("price_history:*",))

PROJECT = Project(
    name="prices",
    sources=(HOURS, PRICES),
    views=(PRICE_HISTORY,),
    cases=Cases(HOURS, "hour_id", "asked", (
        Field("zone", "string"), Field("load_forecast_gw", "float64"), Field("wind_forecast_gw", "float64"),
    )),
    label=Label(PRICES, "spike"),
    model=SklearnModel("spike_trees", FEATURES, "sklearn.ensemble:HistGradientBoostingClassifier", ("zone",),
                       {"max_iter": 60, "min_samples_leaf": 20}),
    baseline=SklearnModel("spike_logistic", FEATURES, "sklearn.linear_model:LogisticRegression", ("zone",)),
    gates=(Gate("ranks", "roc_auc", "at_least", 0.8, min_rows=200),
           Gate("no_worse", "log_loss", "not_worse_than_champion", 0.05, min_rows=200)),
    rollout=RolloutPolicy(
        steps=(SetWeight(50), Pause(2 * DAY), Analysis()),
        metrics=(
            AnalysisMetric("log_loss", "log_loss_difference", "result <= 0.3", "result > 0.4", min_rows=30),
        ),
    ),
    drift=DriftPolicy(window=3 * DAY, min_psi=0.5, min_rows=100, min_share=0.4),
    retrain=RetrainPolicy(holdout=7 * DAY, cooldown=14 * DAY, max_retrains=1),
    timeline=Timeline(START + DAY, START + 28 * DAY, START + 35 * DAY, START + 56 * DAY),
)
