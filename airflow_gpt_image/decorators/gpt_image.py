"""``@task.gpt_image`` and ``@task.gpt_image_batch``: a function says what to draw, an operator does the rest.

Airflow's own decorators render what the function returned. These don't: prompts come out of data sets, and
one that contains ``{{`` means just that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from airflow.sdk.bases.decorator import DecoratedOperator, is_async_callable, task_decorator_factory
from airflow.sdk.exceptions import TaskDeferred

from airflow_gpt_image.airflow_internals import SET_DURING_EXECUTION
from airflow_gpt_image.errors import InvalidRequestError
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from airflow_gpt_image.tasks.labels import fix_label

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator

    from airflow_gpt_image.api.models import ImageRequest

_LABEL: Final = "gpt_image_map_index"  # in the task state store; Airflow 3.3.0 has no keys with a slash
_LONGEST_LABEL: Final = 250  # a longer one doesn't fit into Airflow's column, and fails a task that has paid


def gpt_image_task(
    python_callable: Callable[..., Any] | None = None, *, multiple_outputs: bool = False, **kwargs: Any
) -> TaskDecorator:
    """
    Make an image of what the function returns: ``@task.gpt_image``.

    It returns a prompt; or a mapping of request fields (``prompt``, ``image_urls``, ``aspect_ratio``,
    ``resolution``, ``nsfw_checker``, ``callback_url``); or an
    :class:`~airflow_gpt_image.api.models.ImageRequest`. What that names goes before what was given to the
    decorator. It is checked before anything is paid for, and Jinja doesn't touch it.

    The function is called once in every try. If a retry returns something else, that is another request, and
    paid for: so dice, clocks and language models belong in a task of their own before this one.

    :param python_callable: the function; its arguments are as for any ``@task``.
    :param multiple_outputs: push the entries of the result as XComs of their own, too. The function's
        annotation doesn't decide it, for that is about the request.
    :param kwargs: everything of :class:`~airflow_gpt_image.operators.gpt_image.GptImageGenerateOperator` but
        ``prompt``.
    :raises InvalidRequestError: while the DAG is parsed, as the operator does, and for a ``prompt``.
    """
    return _decorator(_GptImageDecoratedOperator, python_callable, multiple_outputs, kwargs)


def gpt_image_batch_task(
    python_callable: Callable[..., Any] | None = None, *, multiple_outputs: bool = False, **kwargs: Any
) -> TaskDecorator:
    """
    Make images of the data set that the function returns: ``@task.gpt_image_batch``.

    It returns what the operator takes as ``requests``: a list of prompts or of mappings, or the path of a
    file. Jinja doesn't touch it.

    The function is called once in every try. What it returns the second time may be in another order, longer
    or shorter: what is paid for is found by what it is.

    :param python_callable: the function; its arguments are as for any ``@task``.
    :param multiple_outputs: push the entries of the result as XComs of their own, too.
    :param kwargs: everything of :class:`~airflow_gpt_image.operators.batch.GptImageBatchOperator` but
        ``requests``.
    :raises InvalidRequestError: while the DAG is parsed, as the operator does, and for ``requests``.
    """
    return _decorator(_GptImageBatchDecoratedOperator, python_callable, multiple_outputs, kwargs)


def _decorator(
    operator: type[_FunctionOperator],
    function: Callable[..., Any] | None,
    multiple_outputs: bool,
    kwargs: dict[str, Any],
) -> TaskDecorator:
    """Return the function as a task; or, while there is none yet, what makes a task of it."""
    if function is None:
        return cast("TaskDecorator", lambda given: _decorator(operator, given, multiple_outputs, kwargs))
    from airflow_gpt_image.tasks import checks

    # Already here, for the operator of a mapped task isn't made before it runs.
    with checks.NamesTask(kwargs.get("task_id", getattr(function, "__name__", None))):
        _refuse_given(operator, kwargs)
        operator.check(kwargs)
    return task_decorator_factory(
        python_callable=function,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=operator,
        **kwargs,
    )


class _FunctionOperator(DecoratedOperator):
    """
    An operator one of whose arguments is what a function returns, called once in every try.

    :cvar custom_operator_name: the decorator's name, as Airflow and our errors show it.
    :cvar returns: the argument's name.
    """

    custom_operator_name: ClassVar[str]
    returns: ClassVar[str]
    # So "Rendered Templates" in the UI show what the function returned.
    overwrite_rtif_after_execution = True

    def __init__(self, *, python_callable: Callable[..., Any], **kwargs: Any) -> None:
        from airflow_gpt_image.tasks import checks

        with checks.NamesTask(kwargs.get("task_id")):
            _refuse_given(type(self), kwargs)
            if is_async_callable(python_callable):  # type: ignore[no-untyped-call]
                raise InvalidRequestError(
                    f"{python_callable.__name__}() is asynchronous.\n"
                    f"{self.custom_operator_name} calls a plain function.\n"
                    "Write it with def, and leave what has to be awaited to a task before this one."
                )
        kwargs[self.returns] = SET_DURING_EXECUTION
        super().__init__(python_callable=python_callable, **kwargs)

    @staticmethod
    def check(given: Mapping[str, Any]) -> None:
        """Refuse arguments that are wrong whatever the function returns."""
        raise NotImplementedError

    def take(self, returned: object) -> None:
        """Make what the function returned this operator's arguments, or refuse it."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """Call the function; then do what the operator does."""
        _put(context, self.op_kwargs)
        self.take(self.python_callable(*self.op_args, **self.determine_kwargs(context)))
        if template := context.get("map_index_template"):
            # Airflow renders it at the task's end, and fails the task if it can't. After a deferral it can't:
            # the arguments, and what the function put into the context, are gone. So it is rendered now.
            label = str(self.render_template(template, context))[:_LONGEST_LABEL]
            context["task_state_store"].set(_LABEL, label)
            fix_label(context, label)
        return super().execute(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral, without the function."""
        if context.get("map_index_template"):
            fix_label(context, context["task_state_store"].get(_LABEL))
        return super().resume_execution(next_method, next_kwargs, context)


class _GptImageDecoratedOperator(_FunctionOperator, GptImageGenerateOperator):
    """The operator, with a function that says what to draw."""

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *GptImageGenerateOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **GptImageGenerateOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.gpt_image"
    returns = "prompt"

    @staticmethod
    def check(given: Mapping[str, Any]) -> None:
        """Refuse arguments that are wrong whatever the function returns."""
        from airflow_gpt_image.operators import image_arguments

        image_arguments.check(given)

    def take(self, returned: object) -> None:
        """Take the fields that the function named; the others stay as they were given to the decorator."""
        for name, value in _request_fields(returned, self.python_callable).items():
            setattr(self, name, value)

    def show_request(self, request: ImageRequest) -> None:
        """Take what was asked for from the record, for the UI: the function isn't called again."""
        self.take(request)


class _GptImageBatchDecoratedOperator(_FunctionOperator, GptImageBatchOperator):
    """The operator, with a function that returns the data set."""

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *GptImageBatchOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **GptImageBatchOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.gpt_image_batch"
    returns = "requests"

    @staticmethod
    def check(given: Mapping[str, Any]) -> None:
        """Refuse arguments that are wrong whatever the function returns."""
        from airflow_gpt_image.operators import batch_arguments

        batch_arguments.check(given)

    def take(self, returned: object) -> None:
        """Take it as it is: the operator finds out whether it is a data set."""
        self.requests = returned

    def execute(self, context: Context) -> Any:
        """Do what the operator does; note that nothing is paid for, should the function itself fail."""
        try:
            return super().execute(context)
        except TaskDeferred:
            raise
        except BaseException:
            self.note_attempt(context)
            raise

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Show in the UI what is carried out: the function isn't called again."""
        from airflow_gpt_image.batch.plan import NAME
        from airflow_gpt_image.storage.folders import open_folder

        self.take(open_folder(self.destination).address(NAME))
        return super().execute_complete(context, event)


def _refuse_given(operator: type[_FunctionOperator], kwargs: Mapping[str, Any]) -> None:
    """Refuse an argument that is the function's to return."""
    if operator.returns in kwargs:
        from airflow_gpt_image.api.text import quote

        raise InvalidRequestError(
            f"{operator.returns}={quote(kwargs[operator.returns])} was given to "
            f"{operator.custom_operator_name}.\n"
            "There the function returns it.\n"
            "Leave it out, or use the operator without a function."
        )


def _put(context: Context, values: Mapping[str, Any]) -> None:
    # A type checker knows it as a fixed set of names; functions are handed whatever is in it.
    cast("dict[str, Any]", context).update(values)


def _request_fields(returned: object, function: Callable[..., Any]) -> dict[str, Any]:
    """Return the fields of a request as the function named them; the request itself checks them."""
    from airflow_gpt_image.api.models import ImageRequest
    from airflow_gpt_image.api.text import quote

    if isinstance(returned, ImageRequest):
        returned = returned.model_dump(exclude_unset=True)
    if isinstance(returned, str):
        returned = {"prompt": returned}
    if not isinstance(returned, Mapping):
        raise InvalidRequestError(
            f"{function.__name__}() returned {quote(returned)}.\n"
            "It has to return a prompt (a string), a mapping of request fields, or an ImageRequest.\n"
            "To make no image, raise AirflowSkipException."
        )
    unknown = [name for name in returned if name not in ImageRequest.model_fields]
    if unknown:
        raise InvalidRequestError(
            f"{function.__name__}() returned {quote(unknown[0])}, which is not a field of a request.\n"
            f"The fields are {', '.join(ImageRequest.model_fields)}.\n"
            "Everything else is given to the decorator."
        )
    return {"prompt": None, **returned}
