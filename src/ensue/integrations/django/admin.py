"""What happened to an object, in Django's admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from ensue.integrations.django.entity import Entity, stream
from ensue.integrations.raising import app_of

if TYPE_CHECKING:
    _Admin = admin.ModelAdmin[Any]
else:
    _Admin = object

_MOST = 200


class EventsAdmin(_Admin):
    """A mixin for the admin of an entity, named first: `class OrderAdmin(EventsAdmin, admin.ModelAdmin)`.

    The page of an object gets a link to its events, the latest first. Who may view the object may view them. With the
    setting `ENSUE_CONSOLE` there is a link to the console, too.
    """

    change_form_template = "ensue/change_form.html"

    def get_urls(self) -> list[URLPattern]:
        """Add the page of events."""
        about = self.model._meta  # noqa: SLF001 Django's own, and documented
        name = f"{about.app_label}_{about.model_name}_events"
        view = self.admin_site.admin_view(self.events_view)
        return [path("<path:object_id>/events/", view, name=name), *super().get_urls()]

    def events_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Show what happened to an object."""
        entity = self.get_object(request, object_id)
        if not isinstance(entity, Entity):
            raise Http404(f"there is no {self.model.__name__} {object_id} that raises events")
        if not self.has_view_permission(request, entity):
            raise PermissionDenied
        name = stream(entity)
        events = list(app_of(type(entity)).read(stream=name))
        return TemplateResponse(
            request,
            "ensue/events.html",
            {
                **self.admin_site.each_context(request),
                "title": f"Events of {entity}",
                "opts": self.model._meta,  # noqa: SLF001
                "original": entity,
                "stream": name,
                "events": events[: -_MOST - 1 : -1],
                "more": max(0, len(events) - _MOST),
                "console": getattr(settings, "ENSUE_CONSOLE", None),
            },
        )
