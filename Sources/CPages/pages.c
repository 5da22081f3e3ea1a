// The files of the pages, in the executable: `files/` has them as a browser and its tools know them; the sample data is that of `Examples/`.
#include "CPages.h"

// C23, which the compiler knows in every mode.
#pragma clang diagnostic ignored "-Wc23-extensions"

static const char account_js[] = {
#embed "files/account.js"
};
static const char account_mustache[] = {
#embed "files/account.mustache"
};
static const char app_css[] = {
#embed "files/app.css"
};
static const char app_js[] = {
#embed "files/app.js"
};
static const char cars_csv[] = {
#embed "../../Examples/cars.csv"
};
static const char chart_js[] = {
#embed "files/chart.js"
};
static const char dashboard_js[] = {
#embed "files/dashboard.js"
};
static const char dashboard_mustache[] = {
#embed "files/dashboard.mustache"
};
static const char docs_js[] = {
#embed "files/docs.js"
};
static const char docs_mustache[] = {
#embed "files/docs.mustache"
};
static const char icons_svg[] = {
#embed "files/icons.svg"
};
static const char join_sh[] = {
#embed "files/join.sh"
};
static const char layout_mustache[] = {
#embed "files/layout.mustache"
};
static const char live_js[] = {
#embed "files/live.js"
};
static const char logo_svg[] = {
#embed "files/logo.svg"
};
static const char manage_js[] = {
#embed "files/manage.js"
};
static const char models_js[] = {
#embed "files/models.js"
};
static const char models_mustache[] = {
#embed "files/models.mustache"
};
static const char new_js[] = {
#embed "files/new.js"
};
static const char new_mustache[] = {
#embed "files/new.mustache"
};
static const char penguins_csv[] = {
#embed "../../Examples/penguins.csv"
};
static const char problem_mustache[] = {
#embed "files/problem.mustache"
};
static const char results_js[] = {
#embed "files/results.js"
};
static const char session_js[] = {
#embed "files/session.js"
};
static const char session_mustache[] = {
#embed "files/session.mustache"
};
static const char sessions_js[] = {
#embed "files/sessions.js"
};
static const char sessions_mustache[] = {
#embed "files/sessions.mustache"
};
static const char shared_js[] = {
#embed "files/shared.js"
};
static const char shared_mustache[] = {
#embed "files/shared.mustache"
};
static const char signin_mustache[] = {
#embed "files/signin.mustache"
};
static const char titanic_csv[] = {
#embed "../../Examples/titanic.csv"
};
static const char try_js[] = {
#embed "files/try.js"
};

static const cohort_page_file files[] = {
    {"account.js", account_js, sizeof account_js},
    {"account.mustache", account_mustache, sizeof account_mustache},
    {"app.css", app_css, sizeof app_css},
    {"app.js", app_js, sizeof app_js},
    {"cars.csv", cars_csv, sizeof cars_csv},
    {"chart.js", chart_js, sizeof chart_js},
    {"dashboard.js", dashboard_js, sizeof dashboard_js},
    {"dashboard.mustache", dashboard_mustache, sizeof dashboard_mustache},
    {"docs.js", docs_js, sizeof docs_js},
    {"docs.mustache", docs_mustache, sizeof docs_mustache},
    {"icons.svg", icons_svg, sizeof icons_svg},
    {"join.sh", join_sh, sizeof join_sh},
    {"layout.mustache", layout_mustache, sizeof layout_mustache},
    {"live.js", live_js, sizeof live_js},
    {"logo.svg", logo_svg, sizeof logo_svg},
    {"manage.js", manage_js, sizeof manage_js},
    {"models.js", models_js, sizeof models_js},
    {"models.mustache", models_mustache, sizeof models_mustache},
    {"new.js", new_js, sizeof new_js},
    {"new.mustache", new_mustache, sizeof new_mustache},
    {"penguins.csv", penguins_csv, sizeof penguins_csv},
    {"problem.mustache", problem_mustache, sizeof problem_mustache},
    {"results.js", results_js, sizeof results_js},
    {"session.js", session_js, sizeof session_js},
    {"session.mustache", session_mustache, sizeof session_mustache},
    {"sessions.js", sessions_js, sizeof sessions_js},
    {"sessions.mustache", sessions_mustache, sizeof sessions_mustache},
    {"shared.js", shared_js, sizeof shared_js},
    {"shared.mustache", shared_mustache, sizeof shared_mustache},
    {"signin.mustache", signin_mustache, sizeof signin_mustache},
    {"titanic.csv", titanic_csv, sizeof titanic_csv},
    {"try.js", try_js, sizeof try_js},
};

size_t cohort_page_file_count(void) { return sizeof files / sizeof *files; }

cohort_page_file cohort_page_file_at(size_t index) { return files[index]; }
