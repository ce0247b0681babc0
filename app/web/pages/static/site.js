// Pages read without this; it makes them live and saves some clicks.
"use strict";
