from app.web.pages.site import Blueprint

blueprint = Blueprint("search", __name__)
