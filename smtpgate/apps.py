from django.apps import AppConfig


class SmtpGateConfig(AppConfig):
    name = "smtpgate"
