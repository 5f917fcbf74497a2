"""The hooks leave every estimator as it was for everybody who looks at it, and see the outermost call only."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import pickle
import threading
import weakref
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_selection import SelectFromModel
from sklearn.impute import IterativeImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, cross_validate
from sklearn.model_selection._search import BaseSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator

from mlaudit.capture.hooks import is_hook
from mlaudit.capture.libraries import sklearn as module
from mlaudit.capture.libraries.sklearn import SklearnIntegration
from mlaudit.errors import AuditRefusedError, SpoolUnavailableError

if TYPE_CHECKING:
    from mlaudit.testing import AuditLog

X, Y = load_iris(return_X_y=True)
STARTED = "audit.ml.training.started"
COMPLETED = "audit.ml.training.completed"
EVALUATED = "audit.ml.training.evaluated"
PREDICTION = "audit.ml.prediction"
REFUSE = """
version: 1
revisions: [{number: 1, date: 2026-11-28, changes: first, reason: test, sections: [3]}]
rules:
  - {name: strict, level: metadata, on_failure: refuse}
"""


class Majority(ClassifierMixin, BaseEstimator):
    """A user's own classifier."""

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Majority:  # noqa: N803
        """The most frequent class."""
        self.classes_, counts = np.unique(y, return_counts=True)
        self.answer_ = self.classes_[counts.argmax()]
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Always the same."""
        return np.full(len(X), self.answer_)


def test_fit_is_recorded_before_and_after(log: AuditLog) -> None:
    """One fit is one started and one completed record of the same run."""
    LogisticRegression(max_iter=200).fit(X, Y)
    assert log.kinds() == [STARTED, COMPLETED]
    started, completed = log.of(STARTED)[0], log.of(COMPLETED)[0]
    assert started["ml.training.run_id"] == completed["ml.training.run_id"]
    assert started["audit.guarantee"] == "durable"


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        GridSearchCV(SGDClassifier(random_state=0), {"alpha": [1e-3, 1e-2]}, cv=2),
        RandomForestClassifier(n_estimators=5),
        StackingClassifier(
            [("a", LogisticRegression(max_iter=500)), ("b", KNN := RandomForestClassifier(2))], cv=2
        ),
        CalibratedClassifierCV(LogisticRegression(max_iter=500), cv=2),
    ],
    ids=["pipeline", "search", "forest", "stacking", "calibrated"],
)
def test_only_the_outermost_call_is_recorded(log: AuditLog, estimator: Any) -> None:
    """However many models are fitted and asked inside, one call of the user is one action."""
    estimator.fit(X, Y)
    estimator.predict(X)
    estimator.score(X, Y)
    assert log.kinds() == [STARTED, COMPLETED, PREDICTION, EVALUATED]


@pytest.mark.parametrize("jobs", [2, -1])
def test_threads_of_a_forest_belong_to_the_outer_call(log: AuditLog, jobs: int) -> None:
    """Trees that are fitted and asked in joblib's threads make no records of their own."""
    forest = RandomForestClassifier(8, n_jobs=jobs).fit(X, Y)
    forest.predict(X)
    assert log.kinds() == [STARTED, COMPLETED, PREDICTION]


@pytest.mark.parametrize(
    "preparation",
    [
        StandardScaler(),
        PCA(2),
        SelectFromModel(LogisticRegression(max_iter=500)),
        IterativeImputer(max_iter=1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_preparing_data_is_no_training_run(log: AuditLog, preparation: Any) -> None:
    """Scalers, selectors and imputers make no record, and neither do the models they fit inside."""
    preparation.fit(X, Y)
    preparation.transform(X)
    preparation.fit_transform(X, Y)
    assert log.kinds() == []


def test_pipeline_of_preparations_is_recorded(log: AuditLog) -> None:
    """A pipeline is what people save and serve, whatever its steps are."""
    make_pipeline(StandardScaler(), PCA(2)).fit_transform(X)
    assert log.kinds() == [STARTED, COMPLETED]


def test_fit_predict_and_clusterers(log: AuditLog) -> None:
    """Models that fit and answer in one call are trained once."""
    KMeans(2, n_init=1, random_state=0).fit_predict(X)
    LocalOutlierFactor().fit_predict(X)
    assert log.kinds() == [STARTED, COMPLETED] * 2


def test_users_own_class_is_recorded(log: AuditLog) -> None:
    """A class that a user derives from BaseEstimator is audited as soon as it exists."""
    Majority().fit(X, Y).predict(X[:2])

    class Later(Majority):
        def predict_proba(self, X: Any) -> Any:  # noqa: N803
            return np.ones((len(X), 1))

    Later().fit(X, Y).predict_proba(X)
    assert log.kinds() == [STARTED, COMPLETED, PREDICTION] * 2
    assert log.of(PREDICTION)[1]["ml.model.class"].endswith("Later")


@pytest.mark.parametrize("judge", [cross_val_score, cross_validate, cross_val_predict])
def test_cross_validation_is_one_evaluation(auditing: Any, judge: Any) -> None:
    """Folds are trained only to judge a model: one evaluation record, no training run."""
    import sklearn.model_selection as package

    with auditing() as log:
        getattr(package, judge.__name__)(LogisticRegression(max_iter=500), X, Y, cv=3)
    assert log.kinds() == [EVALUATED]
    record = log.of(EVALUATED)[0]
    assert record["ml.training.method"] == judge.__name__
    assert record["ml.training.parameters"]["max_iter"] == "500"


def test_hasattr_follows_available_if(auditing: Any) -> None:
    """Methods that exist only under a condition go on existing only then."""
    assert not hasattr(make_pipeline(StandardScaler()), "predict")
    assert hasattr(make_pipeline(LogisticRegression()), "predict_proba")
    assert not hasattr(SGDClassifier(loss="hinge"), "predict_proba")
    assert not hasattr(GridSearchCV(SVC(), {}), "predict_proba")


def test_signatures_docstrings_and_names_are_kept(auditing: Any) -> None:
    """Whoever inspects a hooked method sees the original."""
    originals = {}
    if not module.is_instrumented():
        pytest.fail("the fixture sets the hooks")
    for cls in (LogisticRegression, Pipeline, GridSearchCV, Majority):
        for name in ("fit", "predict", "score"):
            originals[cls, name] = inspect.signature(getattr(cls, name)), getattr(cls, name).__doc__
    assert str(originals[LogisticRegression, "fit"][0]) == "(self, X, y, sample_weight=None)"
    assert str(originals[Majority, "fit"][0]).startswith("(self, X: 'Any', y: 'Any', sample_weight")
    assert originals[Majority, "fit"][1] == "The most frequent class."
    assert Majority.fit.__qualname__ == "Majority.fit"
    assert inspect.isfunction(LogisticRegression.fit)


def test_metadata_routing_is_intact(auditing: Any) -> None:
    """Requests for sample weights are found in the signatures behind the hooks, and honoured."""
    with sklearn.config_context(enable_metadata_routing=True):

        class Weighted(Majority):
            def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:  # noqa: N803
                self.seen_ = sample_weight
                return super().fit(X, y)

        model = Weighted().set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        fitted = make_pipeline(scaler, model).fit(X, Y, sample_weight=np.ones(len(X)))
        assert fitted[-1].seen_ is not None
        with pytest.raises(TypeError, match="unexpected argument"):
            make_pipeline(Weighted()).fit(X, Y, nonsense=1)


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_estimators_pickle_clone_and_copy(auditing: Any, pickler: Any) -> None:
    """Models, their bound methods and the classes themselves survive pickling, cloning and deep copies."""
    with auditing():
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
        expected = model.predict(X)
        for twin in (pickler.loads(pickler.dumps(model)), copy.deepcopy(model)):
            assert (twin.predict(X) == expected).all()
        assert (pickler.loads(pickler.dumps(model.predict))(X) == expected).all()
        assert clone(model).get_params()["logisticregression__C"] == 1.0
        assert pickler.loads(pickler.dumps(LogisticRegression)) is LogisticRegression


def test_class_shipped_by_value_can_be_used(auditing: Any) -> None:
    """A class of an interactive session travels to workers by value, hooks included."""
    space: dict[str, Any] = {"__name__": "__main__"}
    source = inspect.getsource(Majority).replace("Majority", "Interactive")
    with auditing() as log:
        exec("from __future__ import annotations\n" + source, globals() | space, space)
        shipped = cloudpickle.dumps(space["Interactive"]().fit(X, Y))
        assert cloudpickle.loads(shipped).predict(X[:3]).shape == (3,)
        assert PREDICTION in log.kinds()


def test_scikit_learns_own_checks_pass(auditing: Any) -> None:
    """scikit-learn's conformance checks find nothing in hooked estimators."""
    with auditing():
        check_estimator(LogisticRegression(max_iter=50))


def test_uninstrument_puts_every_original_back() -> None:
    """After uninstrument no class has a hook, old or new, and instrument can be called again."""
    was_set = module.is_instrumented()
    integration = SklearnIntegration()
    integration.instrument()
    integration.instrument()
    hooked = LogisticRegression.__dict__["fit"]
    descriptor = Pipeline.__dict__["predict"]
    assert is_hook(hooked)
    integration.uninstrument()
    integration.uninstrument()
    assert LogisticRegression.__dict__["fit"] is hooked.__wrapped__
    assert not is_hook(descriptor.fn)
    assert "__init_subclass__" not in BaseEstimator.__dict__

    class New(Majority):
        def fit(self, X: Any, y: Any) -> Any:  # noqa: N803
            return super().fit(X, y)

    assert not is_hook(New.__dict__["fit"])
    integration.instrument()
    assert is_hook(LogisticRegression.__dict__["fit"])
    assert is_hook(New.__dict__["fit"])
    if not was_set:
        integration.uninstrument()


def test_off_means_the_original_call(auditing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hooks set and auditing off, calls go straight through."""
    from mlaudit.pipeline import current

    monkeypatch.delenv("MLAUDIT_ENABLED", raising=False)
    previous = current.install(None)
    try:
        model = LogisticRegression(max_iter=200).fit(X, Y)
        assert model.score(X, Y) > 0.9
    finally:
        current.install(previous)


def test_threads_do_not_disturb_each_other(log: AuditLog) -> None:
    """Outermost is per thread: two threads that train at once make a record pair each."""
    barrier = threading.Barrier(2)

    def train() -> None:
        barrier.wait(5)
        SGDClassifier(random_state=0).fit(X, Y)

    threads = [threading.Thread(target=train) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(log.kinds()) == sorted([STARTED, COMPLETED] * 2)
    assert (
        len({record["ml.training.run_id"] for record in log.records if "ml.training.run_id" in record}) == 2
    )


def test_class_that_cannot_be_hooked_still_comes_to_be(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault while a class is hooked is told and does not reach the class statement."""

    def broken(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(module, "_hook_method", broken)

    class Unhooked(Majority):
        def fit(self, X: Any, y: Any) -> Any:  # noqa: N803
            return self

    assert Unhooked().fit(X, Y)
    assert log.of("audit.pipeline.failure")[0]["audit.component"] == "capture.libraries.sklearn"


class Rude(Majority):
    """Raises when it is asked for anything that it has not."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_estimator_whose_getattr_raises(log: AuditLog) -> None:
    """An attribute that cannot be asked for costs what it would have said, not the call and not its record."""
    with pytest.raises(RuntimeError, match="absent"):
        _ = Rude().absent
    model = Rude().fit(X, Y)
    model.predict(X)
    assert model.score(X, Y) == pytest.approx(1 / 3)
    kinds = [kind for kind in log.kinds() if kind != "audit.pipeline.failure"]
    assert kinds == [STARTED, COMPLETED, PREDICTION, EVALUATED]
    assert not [record for record in log.records if record.get("audit.failed")]


class Delegating(BaseEstimator):
    """A metaestimator whose other methods are those of the estimator inside."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: Any, y: Any) -> Delegating:  # noqa: N803
        self.estimator_ = clone(self.estimator).fit(X, y)
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name.endswith("_"):
            raise AttributeError(name)
        return getattr(self.estimator_, name)


def test_metaestimator_that_delegates(log: AuditLog) -> None:
    """What it passes on is recorded as the inner model's; what it does itself prepares data, as far as one can see."""
    model = Delegating(Majority()).fit(X, Y)
    assert log.kinds() == []
    model.predict(X)
    model.score(X, Y)
    assert log.kinds() == [PREDICTION, EVALUATED]
    assert log.of(PREDICTION)[0]["ml.model.class"].endswith("Majority")


def test_conditional_method_is_recorded_and_put_back(log: AuditLog) -> None:
    """The descriptor stays the same object, before, while and after it is hooked."""
    descriptor = BaseSearchCV.__dict__["predict_proba"]
    function = descriptor.fn
    assert is_hook(function)
    search = GridSearchCV(LogisticRegression(max_iter=500), {}, cv=2).fit(X, Y)
    search.predict_proba(X)
    assert log.of(PREDICTION)[0]["ml.prediction.method"] == "predict_proba"
    SklearnIntegration().uninstrument()
    assert BaseSearchCV.__dict__["predict_proba"] is descriptor
    assert descriptor.fn is function.__wrapped__
    SklearnIntegration().instrument()
    assert BaseSearchCV.__dict__["predict_proba"] is descriptor


def test_instance_by_name_and_missing_instance(log: AuditLog) -> None:
    """A method called as a function fails, or does not fail, as it would without its hook."""
    model = Majority()
    assert Majority.fit(self=model, X=X, y=Y) is model
    with pytest.raises(TypeError, match=r"Majority\.fit\(\) missing 3 required"):
        Majority.fit()


def test_model_is_recorded_inside_of_what_is_no_estimator(log: AuditLog) -> None:
    """A class that takes only a mixin from scikit-learn is not audited, and hides nothing that is."""

    class Plain(ClassifierMixin):
        def predict(self, X: Any) -> Any:  # noqa: N803
            return LogisticRegression(max_iter=500).fit(X, Y).predict(X)

    assert Plain().score(X, Y) > 0.9
    assert log.kinds() == [STARTED, COMPLETED, PREDICTION, EVALUATED]
    assert log.of(EVALUATED)[0]["ml.training.method"] == "accuracy_score"


def test_questions_of_the_audit_leave_no_records(log: AuditLog) -> None:
    """Parameters and results that ask the model while they are described are not the program's calls."""

    class Curious(Majority):
        def get_params(self, deep: bool = True) -> Any:
            Majority().fit(X, Y).predict(X)
            return super().get_params(deep)

    Curious().fit(X, Y)
    assert log.kinds() == [STARTED, COMPLETED]


def test_method_that_calls_back_into_a_hook(log: AuditLog) -> None:
    """A fit that asks itself, other models and itself again is one run."""

    class Recursive(Majority):
        def fit(self, X: Any, y: Any, depth: int = 2) -> Any:  # noqa: N803
            super().fit(X, y)
            self.predict(X)
            return self.fit(X, y, depth - 1) if depth else self

    Recursive().fit(X, Y)
    assert log.kinds() == [STARTED, COMPLETED]


def test_error_of_a_prediction_is_not_replaced_by_a_refusal(auditing: Any) -> None:
    """A model that fails gives nothing out: its own error reaches the program, and the missing record is counted."""
    with auditing(REFUSE) as log:
        model = LogisticRegression(max_iter=500).fit(X, Y)
        log.fail(SpoolUnavailableError("disk full"))
        with pytest.raises(ValueError, match="features"):
            model.predict(X[:, :2])
        with pytest.raises(AuditRefusedError):
            model.predict(X)
        assert log.pipeline.counts.refused == 2
        log.heal()


def test_classes_are_forgotten_though_hooked(auditing: Any) -> None:
    """A class that nobody uses any more is not kept by its hooks."""

    class Passing(Majority):
        def fit(self, X: Any, y: Any) -> Any:  # noqa: N803
            return super().fit(X, y)

    assert is_hook(Passing.__dict__["fit"])
    reference = weakref.ref(Passing)
    del Passing
    gc.collect()
    assert reference() is None


def test_method_that_looks_like_a_hooked_one_is_hooked(log: AuditLog) -> None:
    """``functools.wraps`` copies what is written on a method; one that takes its place is audited all the same."""

    class Copy(Majority):
        @functools.wraps(Majority.fit)
        def fit(self, X: Any, y: Any) -> Any:  # noqa: N803
            self.classes_ = np.unique(y)
            return self

    Copy().fit(X, Y)
    assert log.kinds() == [STARTED, COMPLETED]


def test_class_hook_that_somebody_wrapped_does_nothing_afterwards() -> None:
    """What another library keeps of ours hooks no class once the hooks are out."""
    if module.is_instrumented():
        pytest.skip("needs the hooks out")
    integration = SklearnIntegration()
    integration.instrument()
    ours = BaseEstimator.__dict__["__init_subclass__"]
    integration.uninstrument()
    BaseEstimator.__init_subclass__ = ours
    try:

        class Late(Majority):
            def fit(self, X: Any, y: Any) -> Any:  # noqa: N803
                return self

    finally:
        del BaseEstimator.__init_subclass__
    assert not is_hook(Late.__dict__["fit"])
