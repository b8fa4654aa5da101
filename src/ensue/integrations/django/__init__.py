"""Django: entities whose events are recorded when they are saved, and an app with `manage.py ensue …`.

Add "ensue.integrations.django" to INSTALLED_APPS and name your application: `ENSUE_APP = "shop.events:app"`.
"""

from ensue.integrations.django.entity import Entity, entities
from ensue.integrations.django.settings import the_app, url_of

__all__ = ["Entity", "entities", "the_app", "url_of"]
