// The files of the pages, in the executable: `files/` has them as a browser and its tools know them.
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
static const char chart_js[] = {
#embed "files/chart.js"
};
static const char compare_js[] = {
#embed "files/compare.js"
};
static const char compare_mustache[] = {
#embed "files/compare.mustache"
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
static const char join_sh[] = {
#embed "files/join.sh"
};
static const char layout_mustache[] = {
#embed "files/layout.mustache"
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
static const char problem_mustache[] = {
#embed "files/problem.mustache"
};
static const char session_js[] = {
#embed "files/session.js"
};
static const char session_mustache[] = {
#embed "files/session.mustache"
};
static const char signin_mustache[] = {
#embed "files/signin.mustache"
};

static const cohort_page_file files[] = {
    {"account.js", account_js, sizeof account_js},
    {"account.mustache", account_mustache, sizeof account_mustache},
    {"app.css", app_css, sizeof app_css},
    {"app.js", app_js, sizeof app_js},
    {"chart.js", chart_js, sizeof chart_js},
    {"compare.js", compare_js, sizeof compare_js},
    {"compare.mustache", compare_mustache, sizeof compare_mustache},
    {"dashboard.js", dashboard_js, sizeof dashboard_js},
    {"dashboard.mustache", dashboard_mustache, sizeof dashboard_mustache},
    {"docs.js", docs_js, sizeof docs_js},
    {"docs.mustache", docs_mustache, sizeof docs_mustache},
    {"join.sh", join_sh, sizeof join_sh},
    {"layout.mustache", layout_mustache, sizeof layout_mustache},
    {"models.js", models_js, sizeof models_js},
    {"models.mustache", models_mustache, sizeof models_mustache},
    {"new.js", new_js, sizeof new_js},
    {"new.mustache", new_mustache, sizeof new_mustache},
    {"problem.mustache", problem_mustache, sizeof problem_mustache},
    {"session.js", session_js, sizeof session_js},
    {"session.mustache", session_mustache, sizeof session_mustache},
    {"signin.mustache", signin_mustache, sizeof signin_mustache},
};

size_t cohort_page_file_count(void) { return sizeof files / sizeof *files; }

cohort_page_file cohort_page_file_at(size_t index) { return files[index]; }
